"""The runs of a pack, what they deliver, and the circumstances in which they are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from three_regime.config import Training
from three_regime.errors import UserError
from three_regime.kernels import Kernels
from three_regime.pruning.masks import Masks
from three_regime.random_streams import Streams
from three_regime.system.files import Arrays
from three_regime.system.interruption import Stop
from three_regime.tasks.interface import Task
from three_regime.tasks.pack_sizes import Lockstep
from three_regime.training.learning_rate import length_in_iterations


@dataclass(frozen=True)
class Checkpoint:
    """A network at the end of an epoch.

    Attributes
    ----------
    weights
        Parameters and buffers.
    history
        A row for each epoch so far: epoch, iterations, learning_rate, train_loss, train_error (running, augmented),
        and test_error, test_nll where it was evaluated.
    wall_s
        Seconds spent on the run so far; of a pack that advances together, its share.
    together
        Members that advanced together at the end, this one included; 0 where each is computed on its own.
    computed_with
        Kernels; None: those of this process.
    """

    epoch: int
    weights: Arrays
    history: list[dict[str, Any]]
    wall_s: float
    together: int = 0
    computed_with: Kernels | None = None


@dataclass(frozen=True)
class Member:
    """One training run of a pack.

    Attributes
    ----------
    label
        For progress lines.
    key
        Identity of the run, whatever its length: a saved state with another key is not used.
    streams
        Where its random numbers come from.
    start
        Weights to start from.
    masks
        Name → bool array; removed weights stay exactly zero. Empty for dense training.
    checkpoints
        Completed epochs at which `deliver` is called; the run ends at the last. Empty: at its end alone.
    state
        File of the resume state.
    keep_state
        Keep the state when the run has ended, so that a later, longer run continues it.
    """

    label: str
    key: str
    streams: Streams
    start: Arrays
    masks: Masks
    checkpoints: tuple[int, ...]
    state: Path
    deliver: Callable[[Checkpoint], None]
    keep_state: bool = False


@dataclass(frozen=True)
class Session:
    """The circumstances of a run, none of which may change its numbers on one kind of device.

    Attributes
    ----------
    threads
        CPU threads of torch; recorded, because other counts round differently.
    state_every_s
        Seconds between saved states.
    evaluate_last
        The last so many epochs are always evaluated on the test split.
    lockstep
        Whether members advance together (`three_regime.tasks.pack_sizes`). On a CPU that rounds differently; who
        advances together does not.
    """

    threads: int
    state_every_s: float
    stop: Stop
    evaluate_last: int = 0
    lockstep: Lockstep = "auto"


class Flat:
    """All parameters of a network as one vector, and views of it by name.

    One vector makes optimiser, masks and SAM's norm single operations; the vectors of several networks stack.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()]

    def join(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Concatenate the named arrays in order, shape (P,)."""
        return np.concatenate([np.ravel(arrays[name]) for name in self.shapes])

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Views into vectors of shape (…, P), differentiable."""
        parts, leading = vector.split(self.sizes, dim=-1), vector.shape[:-1]
        return {
            name: part.view((*leading, *shape)) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


@dataclass(frozen=True)
class Length:
    """Length of the runs of a pack: checkpoints in completed epochs, steps of an epoch, and steps in all."""

    checkpoints: tuple[int, ...]
    steps_per_epoch: int
    iterations: int

    @property
    def epochs(self) -> int:
        return self.checkpoints[-1]


def length_of(task: Task, training: Training, member: Member) -> Length:
    """Length of a member's run; the last epoch may be begun only.

    Raises
    ------
    UserError
        When an epoch has no step: the run would end, or never end, with the weights that it began with.
    """
    steps_per_epoch = task.epoch(member.streams, 0, training).steps
    if not steps_per_epoch:
        raise UserError(
            f"{member.label}: no step can be made, for drop_last: true drops the last partial batch and at batch_size"
            f" {training.batch_size} and accumulate {training.accumulate} an epoch holds no other; lower batch_size or"
            " accumulate, or set drop_last: false"
        )
    iterations = length_in_iterations(training, steps_per_epoch)
    checkpoints = member.checkpoints or (-(-iterations // steps_per_epoch),)
    return Length(checkpoints, steps_per_epoch, min(iterations, checkpoints[-1] * steps_per_epoch))
