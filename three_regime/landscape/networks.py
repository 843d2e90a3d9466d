"""Input of the additional measures: the weights of retrained networks, their task and the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from three_regime.config import StudyConfig, Training
    from three_regime.pruning.masks import Masks
    from three_regime.random_streams import Streams
    from three_regime.tasks.interface import Stack, Task


class Trained(Protocol):
    """A network that a measure has trained (a checkpoint of `three_regime.training`)."""

    weights: Mapping[str, np.ndarray]
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Networks:
    """One replica, the two of a pair, or three, with everything that a measure may use.

    Attributes
    ----------
    stack
        Evaluates networks with these masks one after another, by the engine if that is faster.
    weights
        Parameters and buffers of each replica, on the task's device.
    pruned
        Those of the pruned network of the cell, for measures that read it; else None.
    masks
        Name → bool array, True for weights that at least one of them keeps.
    recipe
        Recipe of the product, with the settings of the measure.
    streams
        Source of random numbers.
    outputs
        Function of a replica's index (0, 1, …) → ``logits`` and ``softmax`` on the inputs of CKA, each of shape
        (n, features); computed once per replica, however many measures and pairs use them.
    train
        Function of a task, training settings and initial weights → the trained network with its history. It resumes
        interrupted training; removed weights stay 0.
    """

    task: Task
    stack: Stack
    config: StudyConfig
    weights: Sequence[Mapping[str, Tensor]]
    pruned: Mapping[str, Tensor] | None
    masks: Masks
    recipe: Mapping[str, Any]
    streams: Streams
    outputs: Callable[[int], Mapping[str, np.ndarray]]
    train: Callable[[Task, Training, Mapping[str, Tensor]], Trained]
