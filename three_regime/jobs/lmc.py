"""Measure the linear mode connectivity of every pair of replicas."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from three_regime.jobs.context import task_of
from three_regime.jobs.job import Job
from three_regime.jobs.pairs import check_stop, replica_weights
from three_regime.landscape import mode_connectivity
from three_regime.study.products import Product
from three_regime.system import gpu_memory
from three_regime.system.device import convolution_precision
from three_regime.tasks.interface import Stack, Task
from three_regime.tasks.strategies import (
    Alone,
    AloneSparse,
    choose,
    sparse_network,
    stacked,
    wait_for,
    warn_of_too_many,
)

log = logging.getLogger(__name__)

_TRIAL_BATCHES = 4


def compute(job: Job) -> None:
    """Measure the stale pairs, cell by cell; the ends of the lines are measured once per replica."""
    task = task_of(job)
    with convolution_precision(tf32=False), job.stop.at_once():
        stack: Stack | None = None
        for _, cell in itertools.groupby(job.products, lambda product: product.coordinates["density"]):
            pairs = list(cell)
            began = time.monotonic()
            replicas, masks = replica_weights(task, pairs)
            network = sparse_network(task, masks, replicas.values())
            if network is not None and job.study.config.lockstep in ("auto", "off"):
                _measure(job, task, AloneSparse(task, network), pairs, replicas, began)
                continue
            stack = stack or _choose(job, task, replicas)
            if stack.together:
                stack = _measure_together(job, task, stack, pairs, replicas, began)
            else:
                _measure(job, task, AloneSparse(task, network) if network else stack, pairs, replicas, began)


def _measure_together(
    job: Job,
    task: Task,
    stack: Stack,
    pairs: list[Product],
    replicas: dict[Path, dict[str, Tensor]],
    began: float,
) -> Stack:
    """Measure a cell's pairs, several networks at a time; if memory runs out, one after another.

    Return the stack to use for the following cells.
    """

    def together() -> Stack:
        _measure(job, task, stack, pairs, replicas, began)
        return stack

    def alone(reason: str) -> Stack:
        warn_of_too_many(reason)
        remaining = [pair for pair in pairs if not pair.done]
        _measure(job, task, Alone(task), remaining, replicas, time.monotonic())
        return Alone(task)

    return gpu_memory.attempt(together, alone)


def _measure(
    job: Job,
    task: Task,
    stack: Stack,
    pairs: list[Product],
    replicas: dict[Path, dict[str, Tensor]],
    began: float,
) -> None:
    """Measure and write the pairs of one cell; `began` is the start time of the first."""
    for product, path in _paths(job, task, stack, pairs, replicas):
        results = mode_connectivity.line(path)
        first, second = (replicas[product.inputs[role]] for role in ("first", "second"))
        networks = (mode_connectivity.between(task, first, second, t) for t in results["t"])
        results |= job.study.setting.line_scores(job.study.config.measure, task, networks)
        log.info("%s: LMC %+.4f", product.label, results["lmc"])
        together = min(stack.width, len(path)) if stack.together else 0
        with job.going_on():
            job.commit(
                product,
                results,
                wall_s=time.monotonic() - began,
                together=together,
                computed_with=stack.computed_with,
            )
        began = time.monotonic()


def _paths(
    job: Job, task: Task, stack: Stack, pairs: list[Product], replicas: dict[Path, dict[str, Tensor]]
) -> Iterator[tuple[Product, list[mode_connectivity.Point]]]:
    """Yield each pair with the points of its line; the points of a cell are measured in one sequence, ends first."""
    settings = job.study.config.measure
    ends = [(replicas[product.inputs["first"]], replicas[product.inputs["second"]]) for product in pairs]
    inner = (network for pair in ends for network in mode_connectivity.inside(task, *pair, settings.points))
    networks = itertools.chain(replicas.values(), inner)
    measured = mode_connectivity.measure(stack, networks, settings.batch_size, settings.train_images)
    at_ends = dict(zip(replicas, itertools.islice(measured, len(replicas)), strict=True))
    for product in pairs:
        check_stop(job, product)
        between = list(itertools.islice(measured, settings.points - 2))
        yield product, [at_ends[product.inputs["first"]], *between, at_ends[product.inputs["second"]]]


def _choose(job: Job, task: Task, replicas: dict[Path, dict[str, Tensor]]) -> Stack:
    """Choose how the points are computed (see `strategies.choose`)."""
    batch_size = job.study.config.measure.batch_size
    weights = next(iter(replicas.values()))

    def seconds(stack: Stack) -> float:
        width = stack.width
        rows = stacked([weights], stack.rows(width))
        for warm in (False, True):
            began = time.perf_counter()
            stack.reestimate(rows, batch_size, _TRIAL_BATCHES * batch_size if warm else batch_size)
            wait_for(stack.device)
        return (time.perf_counter() - began) / _TRIAL_BATCHES / width

    return choose(task, job.study.config.lockstep, seconds)
