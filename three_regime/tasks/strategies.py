"""Strategies for computing the members of a pack: one after another, or several together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from three_regime.config import Training
from three_regime.kernels import Kernels
from three_regime.pruning.masks import Masks
from three_regime.random_streams import Streams
from three_regime.system import gpu_memory
from three_regime.tasks.interface import (
    Epoch,
    Metrics,
    SparseNetwork,
    Sparsifiable,
    Split,
    Stack,
    Stackable,
    Task,
    Weights,
)
from three_regime.tasks.pack_sizes import Lockstep

log = logging.getLogger(__name__)


class Alone:
    """One member after another: a stack with a single row, computed by the task."""

    together = False
    width = 1
    computed_with: Kernels | None = None

    def __init__(self, task: Task) -> None:
        self.task = task
        self.device = task.device

    def rows(self, members: int) -> int:
        return 1

    def epoch(self, streams: Sequence[Streams], epoch: int, training: Training) -> Epoch:
        return self.task.epoch(streams[0], epoch, training)

    def loss(self, parameters: Weights, buffers: Weights, batch: Any) -> tuple[Tensor, Tensor, int]:
        loss, errors, count = self.task.loss(_only(parameters), _only(buffers), batch)
        return loss[None], errors[None], count

    def targets(self, batch: Any) -> int:
        return self.task.targets(batch)

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> list[Metrics]:
        return [self.task.evaluate(_only(weights), split, images)]

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        found = self.task.reestimate(_only(weights), batch_size, images)
        return {name: value[None] for name, value in found.items()}


class AloneSparse(Alone):
    """One member after another, evaluated by the sparse engine."""

    def __init__(self, task: Task, network: SparseNetwork) -> None:
        super().__init__(task)
        self.network = network
        self.computed_with = network.computed_with

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> list[Metrics]:
        return [self.network.evaluate(_only(weights), split, images)]

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        found = self.network.reestimate(_only(weights), batch_size, images)
        return {name: value[None] for name, value in found.items()}


def one_at_a_time(task: Task, network: SparseNetwork | None) -> Alone:
    """One member after another, evaluated by `network`, or by the task without one (see `sparse_network`)."""
    return AloneSparse(task, network) if network else Alone(task)


def sparse_network(
    task: Task, masks: Masks, networks: Iterable[Mapping[str, Any]], only: Kernels | None = None
) -> SparseNetwork | None:
    """The engine for networks with these masks (none: dense ones); None if the task has none or it is not faster.

    None also if a network has a nonzero weight where the masks prune. `only`: see `Sparsifiable.sparse`.
    """
    if not isinstance(task, Sparsifiable):
        return None
    found = task.sparse(masks, only)
    return found if found and all(found.removed_are_zero(weights) for weights in networks) else None


def _only(tensors: Weights) -> dict[str, Tensor]:
    """The single row, as views, so the caller sees updates of the buffers."""
    return {name: value.view(value.shape[1:]) for name, value in tensors.items()}


def choose(task: Task, choice: Lockstep, seconds: Callable[[Stack], float], by_engine: bool = False) -> Stack:
    """Choose the strategy for the members of a pack.

    On a CPU by fixed rules: ``auto`` means one after another if the engine computes each network on its own, which is
    faster than lock-step (``benchmarks/README.md``), and `pack_sizes.pays_on_cpu` otherwise. On a GPU, where runs are
    not bit-identical, by a short timing.

    Parameters
    ----------
    choice
        The study's `lockstep`.
    seconds
        Time some work; return seconds per member. Called only on a GPU with ``auto``.
    by_engine
        Whether ``auto`` is to leave every member to the engine (`sparse_network`).
    """
    alone = Alone(task)
    if by_engine:
        return alone
    stack = task.stack(choice) if isinstance(task, Stackable) else None
    if stack is not None and choice == "auto" and task.device.type != "cpu":
        stack = stack if _faster(stack, alone, seconds) else None
    return stack or alone


def _faster(stack: Stack, alone: Stack, seconds: Callable[[Stack], float]) -> bool:
    """Whether members are computed faster together than alone; False if memory does not suffice."""
    together = gpu_memory.attempt(lambda: seconds(stack), warn_of_too_many)
    if together is None:
        return False
    apart = seconds(alone)
    log.info("a step takes %.2f ms per member together, %.2f ms alone", together * 1e3, apart * 1e3)
    return together < apart


def warn_of_too_many(reason: str) -> None:
    """Warn that members are computed one after another from now on, for lack of memory."""
    log.warning("not enough GPU memory for several networks at once (%s): one after another", reason)


def stacked(networks: Sequence[Weights], rows: int) -> dict[str, Tensor]:
    """Stack the weights of several networks along a leading dimension; repeat the last to fill `rows`."""
    padded = [*networks, *[networks[-1]] * (rows - len(networks))]
    return {name: torch.stack([each[name] for each in padded]) for name in networks[0]}


def wait_for(device: torch.device) -> None:
    """Synchronise the device before the clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
