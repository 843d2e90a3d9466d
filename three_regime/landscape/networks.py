"""What a measure of retrained networks is given: their weights, what computes them, and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from three_regime.config import StudyConfig, Training
    from three_regime.pruning.masks import Masks
    from three_regime.random_streams import Streams
    from three_regime.tasks.interface import Task


@dataclass(frozen=True)
class Networks:
    """One replica, or the replicas of a pair, with all that a measure may use.

    Attributes
    ----------
    weights
        Parameters and buffers of each replica, on the task's device.
    masks
        Name → bool array: the weights that any of them keeps.
    recipe
        The settings of the measure, as they stand in its fingerprint.
    streams
        For what is drawn.
    outputs
        Function of a replica's place (0, 1) → ``logits`` and ``softmax`` on the inputs of CKA, (n, features) each; each
        replica is computed once, whatever the number of measures and pairs that ask.
    train
        Function of a task, settings and a start → the weights at the end of the training; it continues where a job was
        cut off. The removed weights stay 0.
    """

    task: Task
    config: StudyConfig
    weights: Sequence[Mapping[str, Tensor]]
    masks: Masks
    recipe: Mapping[str, Any]
    streams: Streams
    outputs: Callable[[int], Mapping[str, np.ndarray]]
    train: Callable[[Task, Training, Mapping[str, Tensor]], dict[str, np.ndarray]]
