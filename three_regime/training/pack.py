"""Value types of the trainer: members of a pack, their checkpoints, and session settings."""

from __future__ import annotations

import time
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


@dataclass(frozen=True)
class Checkpoint:
    """A network after an epoch.

    Attributes
    ----------
    weights
        Parameters and buffers.
    history
        One row per epoch so far: epoch, iterations, learning_rate, train_loss, train_error (running, augmented),
        and test_error, test_nll for evaluated epochs.
    wall_s
        Seconds spent on the run so far; in a pack that advances together, the member's share.
    together
        Number of members advancing together at the end, this one included; 0 if each is computed alone.
    computed_with
        Kernels used; None: those of this process.
    """

    epoch: int
    weights: Arrays
    history: list[dict[str, Any]]
    wall_s: float
    together: int = 0
    computed_with: Kernels | None = None

    def earlier_s(self, began: float) -> float:
        """Seconds spent on the run by interrupted jobs, if this one began it at `began` (`time.monotonic`)."""
        return max(0.0, self.wall_s - (time.monotonic() - began))


@dataclass(frozen=True)
class Member:
    """One training run of a pack.

    Attributes
    ----------
    label
        Name in progress lines.
    key
        Identity of the run, independent of its length: a saved state with another key is ignored.
    streams
        Random streams of the run.
    start
        Initial weights.
    masks
        Name → bool array; pruned weights stay exactly zero. Empty for dense training.
    checkpoints
        Completed epochs at which `deliver` is called; the run ends at the last. Empty: only at the end.
    state
        Path of the saved training state.
    keep_state
        Keep the state after the run ends, so a later, longer run can continue it.
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
    """Settings of the process that do not belong to the method.

    Attributes
    ----------
    threads
        Number of torch CPU threads; recorded, because rounding depends on it.
    state_every_s
        Seconds between saved states.
    evaluate_last
        Number of final epochs that are always evaluated on the test split.
    lockstep
        Whether members advance together (`three_regime.tasks.pack_sizes`). On a CPU this changes rounding; how many
        and which members advance together does not.
    """

    threads: int
    state_every_s: float
    stop: Stop
    evaluate_last: int = 0
    lockstep: Lockstep = "auto"


class Flat:
    """Convert between named parameters and one flat vector.

    With one vector, the optimiser, masks and SAM's norm are single operations, and several networks can be stacked.
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
    """Length of a run: checkpoints in completed epochs, steps per epoch, and total steps."""

    checkpoints: tuple[int, ...]
    steps_per_epoch: int
    iterations: int

    @property
    def epochs(self) -> int:
        return self.checkpoints[-1]

    def steps_at(self, epoch: int, step: int) -> int:
        """Steps made after so many whole epochs and steps of the next."""
        return epoch * self.steps_per_epoch + step


def length_of(task: Task, training: Training, member: Member) -> Length:
    """Length of a member's run; the last epoch may be incomplete.

    Raises
    ------
    UserError
        When an epoch has no steps, so the run could not train, or a schedule that anneals ends within its warm-up.
    """
    steps_per_epoch = task.epoch(member.streams, 0, training).steps
    if not steps_per_epoch:
        raise UserError(
            f"{member.label}: an epoch has no steps: drop_last: true drops the last partial batch, and with batch_size"
            f" {training.batch_size} and accumulate {training.accumulate} there is no full one; lower batch_size or"
            " accumulate, or set drop_last: false"
        )
    iterations = training.iterations_of(steps_per_epoch)
    if training.anneals and training.warmup >= iterations:
        raise UserError(
            f"{member.label}: schedule {training.schedule} never anneals, because the warmup of {training.warmup}"
            f" iterations is as long as the run ({iterations}); lower warmup or train longer"
        )
    checkpoints = member.checkpoints or (-(-iterations // steps_per_epoch),)
    return Length(checkpoints, steps_per_epoch, min(iterations, checkpoints[-1] * steps_per_epoch))
