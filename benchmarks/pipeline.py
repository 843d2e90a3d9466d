"""Pipeline side of each comparison: trainer, evaluation, LMC and CKA, timed from outside."""

from __future__ import annotations

import functools
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.conventional import synchronise
from benchmarks.setting import BATCH, Setting, outputs, streams
from benchmarks.timing import clock
from three_regime import kernels
from three_regime.config import Training
from three_regime.errors import Interrupted
from three_regime.kernels import Kernels
from three_regime.kernels.graph import Graph
from three_regime.landscape import mode_connectivity
from three_regime.landscape.linear_cka import linear_cka
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import Masks, apply_masks
from three_regime.system.device import convolution_precision
from three_regime.system.interruption import Stop
from three_regime.tasks.images.task import ImageClassification
from three_regime.tasks.interface import SparseNetwork, Stack
from three_regime.tasks.pack_sizes import Lockstep
from three_regime.tasks.strategies import Alone, one_at_a_time, sparse_network
from three_regime.training.trainer import Member, Session, train_pack

Clock = Callable[[], float]
WARM_UP = 3
PACK = 9  # pack size whose rate `plan` uses
PROTOCOL = Training(epochs=160, milestones=(80, 120), batch_size=BATCH)


@functools.lru_cache(maxsize=1)
def task_of(setting: Setting) -> ImageClassification:
    """Return the pipeline's task, with its data on the device."""
    torch.set_num_threads(setting.threads)
    kernels.allow("auto")
    return ImageClassification(setting.entry, setting.arrays(), setting.model, torch.device(setting.device))


def weights_of(setting: Setting, seed: int) -> dict[str, Tensor]:
    """Return a network's initial weights on the device."""
    task = task_of(setting)
    return task.load(task.initial_weights(streams(seed)), f"seed {seed}")


class _Clocked:
    """Task that times the trainer at its batches: the time between two batches is a number of complete steps."""

    def __init__(self, task: ImageClassification, steps: int, stop: Stop, by_engine: bool, now: Clock) -> None:
        self._task, self._steps, self._stop, self._by_engine = task, steps, stop, by_engine
        self._served = -1
        self._now = now
        self.step_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def epoch(self, *arguments: Any) -> _ClockedEpoch:
        return _ClockedEpoch(self, self._task.epoch(*arguments))

    def sparse(self, masks: Masks, only: Kernels | None = None) -> SparseNetwork | None:
        return self._task.sparse(masks, only) if self._by_engine else None

    def stack(self, choice: Lockstep) -> _ClockedStack | None:
        found = self._task.stack(choice)
        return found and _ClockedStack(self, found)

    def tick(self) -> None:
        self._served += 1
        if self._served in (WARM_UP, WARM_UP + self._steps):
            synchronise(self._task.device.type)
            now = self._now()
            if self._served == WARM_UP:
                self._began = now
            else:
                self.step_s = (now - self._began) / self._steps
                self._stop.reason = "measured"


class _ClockedStack:
    """Stack of networks of a clocked task."""

    def __init__(self, clock: _Clocked, stack: Stack) -> None:
        self._clock, self._stack = clock, stack

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stack, name)

    def epoch(self, *arguments: Any) -> _ClockedEpoch:
        return _ClockedEpoch(self._clock, self._stack.epoch(*arguments))


class _ClockedEpoch:
    def __init__(self, clock: _Clocked, epoch: Any) -> None:
        self._clock, self._epoch = clock, epoch
        self.steps = epoch.steps

    def micro_batches(self, step: int) -> Any:
        self._clock.tick()
        return self._epoch.micro_batches(step)

    def choices(self, step: int) -> Any:
        self._clock.tick()
        return self._epoch.choices(step)


def training_step_s(setting: Setting, steps: int) -> float:
    """Return seconds per step of the trainer for a single network, batches included.

    Raises
    ------
    ValueError
        If the epoch is too short to measure without reaching its end.
    """
    return _step_s(setting, steps, 1, "off", by_engine=True)


def pack_step_s(setting: Setting, steps: int, members: int) -> float:
    """Return seconds per step and member for `members` networks trained together (see `training_step_s`)."""
    return _step_s(setting, steps, members, members) / members


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def pruned_step_s(setting: Setting, steps: int, density: float, by_engine: bool, batch: int = BATCH) -> float:
    """Return seconds per retraining step, with or without the sparse engine."""
    return _step_s(setting, steps, 1, "off", density, by_engine, batch, clock(setting.threads))


def pruned_lmc_s(setting: Setting, points: int, density: float, by_engine: bool) -> float:
    """Return the seconds for one LMC line between two pruned networks with the same mask."""
    task = task_of(setting)
    masks = _masks(task, density)
    ends = [task.load(apply_masks(task.initial_weights(streams(seed)), masks), "drawn") for seed in (1, 2)]
    network = sparse_network(task, masks, ends) if by_engine else None
    now = clock(setting.threads)
    began = now()
    with convolution_precision(tf32=False):
        networks = [ends[0], *mode_connectivity.inside(task, *ends, points), ends[1]]
        list(mode_connectivity.measure(one_at_a_time(task, network), networks, BATCH, None))
    return now() - began


def pruned_work(setting: Setting, densities: Sequence[float]) -> dict[str, float]:
    """Count the work of a step: GFLOP of the kept weights by density, and GB of memory traffic at any density.

    A map after a norm is written once, read once forward and twice backward; its gradient is written and read; a
    shortcut reads once more. The values are counted, not measured.
    """
    task = task_of(setting)
    graph = Graph(setting.entry.channels, setting.entry.image_size)
    task.model.lowered(graph)
    adds = sum(
        each.inputs * each.outputs * each.kernel**2 * each.into.side**2
        for each in graph.layers if each.kind == "convolution"
    )  # fmt: skip
    floats = sum(each.channels * each.side**2 for each in graph.maps)
    beside = sum(each.into.channels * each.into.side**2 for each in graph.layers if each.beside)
    return {
        **{f"gflop_at_{d:g}": 6e-9 * BATCH * adds * graph.kept(_masks(task, d)) for d in densities},
        "gb": 4e-9 * BATCH * (6 * floats + 3 * beside),
    }


def _masks(task: ImageClassification, density: float) -> Masks:
    return magnitude_masks(task.initial_weights(streams(1)), task.prunable, density, "uniform")


def _step_s(
    setting: Setting,
    steps: int,
    members: int,
    lockstep: Lockstep,
    density: float = 1.0,
    by_engine: bool = False,
    batch: int = BATCH,
    now: Clock = time.perf_counter,
) -> float:
    if setting.train_images < (WARM_UP + steps + 2) * batch:
        raise ValueError(f"{steps} steps do not fit into an epoch of {setting.train_images} images")
    task = task_of(setting)
    stop = Stop()
    clocked = _Clocked(task, steps, stop, by_engine, now)
    masks = _masks(task, density) if density < 1 else {}
    with tempfile.TemporaryDirectory() as folder:
        pack = [
            Member(
                label=f"benchmark {seed}",
                key="benchmark",
                streams=streams(seed),
                start=apply_masks(task.initial_weights(streams(seed)), masks),
                masks=masks,
                checkpoints=(),
                state=Path(folder) / f"state{seed}",
                deliver=lambda _: None,
            )
            for seed in range(1, members + 1)
        ]
        try:
            training = PROTOCOL.model_copy(update={"batch_size": batch})
            train_pack(clocked, training, pack, Session(setting.threads, 1e9, stop, lockstep=lockstep))
        except Interrupted:
            return clocked.step_s
    raise AssertionError("the trainer ignored the stop request")


def lmc_s(setting: Setting, points: int) -> tuple[float, list[float]]:
    """Return the seconds for one LMC line, ends included, and the training errors along it."""
    task = task_of(setting)
    first, second = (weights_of(setting, seed) for seed in (1, 2))
    began = time.perf_counter()
    with convolution_precision(tf32=False):
        networks = [first, *mode_connectivity.inside(task, first, second, points), second]
        line = mode_connectivity.line(
            list(mode_connectivity.measure(task.stack("auto") or Alone(task), networks, BATCH, None))
        )
    synchronise(setting.device)
    return time.perf_counter() - began, line["train_error"]


def cka_s(images: int, features: int, repeats: int) -> float:
    """Return the seconds for one CKA in feature space."""
    pair = outputs(images, features)
    began = time.perf_counter()
    for _ in range(repeats):
        linear_cka(*pair)
    return (time.perf_counter() - began) / repeats


def image_rates(setting: Setting, steps: int, densities: Sequence[float]) -> dict[str, Any]:
    """Return images per second of training, evaluation and re-estimation, in the format of ``benchmarks/rates/``.

    Where the sparse engine computes the network, times at `densities` relative to the dense network are included. Each
    time is the shortest of three, or of fewer that took two seconds.
    """
    task, now = task_of(setting), clock(setting.threads)
    count = min(setting.test_images, setting.train_images)

    def step_s(density: float) -> float:
        return _shortest(lambda: _step_s(setting, steps, 1, "off", density, by_engine=True, now=now))

    train, forward = step_s(1.0), _forward_s(task, 1.0, count, now)
    found: dict[str, Any] = {
        "train_images_per_s": round(BATCH / train, 1),
        "evaluate_images_per_s": round(count / forward["evaluate"], 1),
        "reestimate_images_per_s": round(count / forward["reestimate"], 1),
        "parameters": sum(value.numel() for value in task.model.parameters()),
        "image_size": setting.entry.image_size,
    }
    if task.stack("auto") is not None:
        together = _step_s(setting, steps, PACK, PACK, now=now) / PACK
        found["together_images_per_s"] = round(BATCH / together, 1)
    if task.sparse(_masks(task, min(densities))) is not None:
        dense = sum(forward.values())
        found["relative_times"] = {
            f"{density:g}": [
                round(step_s(density) / train, 3),
                round(sum(_forward_s(task, density, count, now).values()) / dense, 3),
            ]
            for density in densities
        }
    return found


def _shortest(timing: Callable[[], float]) -> float:
    began, found = time.perf_counter(), [timing()]
    while len(found) < 3 and time.perf_counter() - began < 2:
        found.append(timing())
    return min(found)


def _forward_s(task: ImageClassification, density: float, images: int, now: Clock) -> dict[str, float]:
    """Return the seconds of evaluating `images` and of re-estimating statistics from them, by the way that jobs use."""
    masks = _masks(task, density) if density < 1 else {}
    weights = task.load(apply_masks(task.initial_weights(streams(1)), masks), "drawn")
    network = sparse_network(task, masks, [weights]) or task

    def timed(work: Callable[[], Any]) -> float:
        began = now()
        work()
        synchronise(task.device.type)
        return now() - began

    def seconds(work: Callable[[], Any]) -> float:
        work()
        return _shortest(lambda: timed(work))

    with convolution_precision(tf32=False):
        return {
            "evaluate": seconds(lambda: network.evaluate(weights, "test", images)),
            "reestimate": seconds(lambda: network.reestimate(weights, BATCH, images)),
        }
