"""A task without images for tests of the trainer, and helpers for `train_pack`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from three_regime.config import Training
from three_regime.random_streams import Streams
from three_regime.system.files import Arrays
from three_regime.system.interruption import Stop
from three_regime.tasks.interface import Metrics
from three_regime.tasks.pack_sizes import Lockstep
from three_regime.training.trainer import Checkpoint, Member, Session, train_pack

SIZE = 6


@dataclass(frozen=True)
class ToyEpoch:
    steps: int
    noise: np.ndarray

    def micro_batches(self, step: int) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(part) for part in self.noise[step])


class Quadratic:
    """Minimise ``mean_i a_i (w_i - b_i - x_i)² / 2`` over `w`, with a new random `x` in every step.

    The buffer ``seen`` counts the passes in training mode, as BatchNorm's counter does.

    Parameters
    ----------
    noise
        Standard deviation of `x`; 0 makes the problem deterministic.
    before_step
        Called with the number of the pass before each one: to signal, to fail.
    """

    unit = "images"
    device = torch.device("cpu")
    parameters: ClassVar = {"w": (SIZE,), "c": (1,)}
    buffers: ClassVar = {"seen": ()}
    prunable = ("w",)

    def __init__(
        self, noise: float = 1.0, steps: int = 5, before_step: Callable[[int], None] = lambda number: None
    ) -> None:
        self.curvature = torch.linspace(0.5, 2.0, SIZE)
        self.target = torch.linspace(-1.0, 1.0, SIZE)
        self.noise, self.steps, self.before_step = noise, steps, before_step
        self.passes = 0
        self.evaluations = 0

    def initial_weights(self, streams: Streams) -> Arrays:
        generator = streams.generator("initialisation")
        return {
            "w": generator.standard_normal(SIZE, dtype=np.float32),
            "c": np.ones(1, np.float32),
            "seen": np.zeros((), np.int64),
        }

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def epoch(self, streams: Streams, epoch: int, training: Training) -> ToyEpoch:
        shape = (self.steps, training.accumulate, SIZE)
        noise = streams.generator("order", epoch).standard_normal(shape, dtype=np.float32) * self.noise
        return ToyEpoch(self.steps, noise.astype(np.float32))

    def value(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        gap = parameters["w"] - self.target - x
        return (self.curvature * gap**2).sum() / 2 + (parameters["c"] ** 2).sum() / 2

    def loss(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], batch: Tensor) -> tuple:
        self.before_step(self.passes)
        self.passes += 1
        buffers["seen"].add_(1)
        return self.value(parameters, batch), torch.tensor(1), 2

    def targets(self, batch: Tensor) -> int:
        return 2

    def evaluate(self, weights: Mapping[str, Tensor], split: str, images: int | None = None) -> Metrics:
        self.evaluations += 1
        return Metrics(0.5, self.value(weights, torch.zeros(SIZE)).item())


def settings(**changes: Any) -> Training:
    return Training.model_validate({"epochs": 4, "batch_size": 2, "milestones": (2,), **changes})


def session(
    state_every_s: float = 1e9, evaluate_last: int = 0, lockstep: Lockstep = "auto", stop: Stop | None = None
) -> Session:
    return Session(1, state_every_s, stop or Stop(), evaluate_last, lockstep)


class StopAfter(Stop):
    """Stop request that triggers after being polled a number of times; the trainer polls once per step."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    @property
    def requested(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.reason = "a test"
        return bool(self.reason)


class Delivered(list):
    """The checkpoints of one member; a `deliver` to hand to it."""

    def __call__(self, checkpoint: Checkpoint) -> None:
        self.append(checkpoint)

    def __getitem__(self, epoch: int) -> Checkpoint:
        return next(checkpoint for checkpoint in self if checkpoint.epoch == epoch)


def member(task: Any, state: Path, deliver: Callable[[Checkpoint], None], **changes: Any) -> Member:
    streams = changes.pop("streams", Streams(("retrain", 1, 1)))
    start = changes.pop("start", None) or task.initial_weights(streams)
    made = Member("toy", "key", streams, start, {}, (), state, deliver)
    return replace(made, **changes)


def train(task: Any, state: Path, training: Training, about: Session | None = None, **changes: Any) -> Delivered:
    """Train one member and return its checkpoints."""
    delivered = Delivered()
    train_pack(task, training, [member(task, state, delivered, **changes)], about or session())
    return delivered


def assert_same(first: Checkpoint, second: Checkpoint) -> None:
    """Assert bitwise equality except for wall time."""
    assert first.epoch == second.epoch
    assert first.weights.keys() == second.weights.keys()
    for name, array in first.weights.items():
        np.testing.assert_array_equal(array, second.weights[name], err_msg=name)
    assert first.history == second.history


def rows(checkpoint: Checkpoint, key: str) -> Sequence[float]:
    return [row[key] for row in checkpoint.history]
