"""Shared by LMC and CKA: load and measure each replica of a pack's stale pairs once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import Tensor

from three_regime.errors import Interrupted
from three_regime.jobs.job import Job
from three_regime.kernels import Kernels
from three_regime.pruning.masks import Masks, split_masks
from three_regime.study.products import Product
from three_regime.system.files import read_arrays
from three_regime.tasks.interface import SparseNetwork, Task
from three_regime.tasks.strategies import sparse_network

Measured = TypeVar("Measured")


def check_stop(job: Job, product: Product) -> None:
    """Raise `Interrupted` when a stop was requested; finished pairs have been written."""
    if job.stop.requested:
        raise Interrupted(f"{job.stop.reason}: {product.label} was not started")


def replica_weights(task: Task, pairs: list[Product]) -> tuple[dict[Path, dict[str, Tensor]], Masks]:
    """Load the replicas of these pairs: path → weights, and the union of their masks."""
    paths = dict.fromkeys(product.inputs[role] for product in pairs for role in ("first", "second"))
    found = {path: split_masks(read_arrays(path)) for path in paths}
    loaded = {path: task.load(weights, str(path)) for path, (weights, _) in found.items()}  # refuses other shapes
    return loaded, united(masks for _, masks in found.values())


def united(masks: Iterable[Masks]) -> Masks:
    """Weights that at least one network keeps, of the tensors that all have masks for."""
    every = list(masks)
    shared = set(every[0]).intersection(*every)
    return {name: np.logical_or.reduce([each[name] for each in every]) for name in sorted(shared)}


def measured_pairs(
    job: Job, task: Task, measure: Callable[[Task | SparseNetwork, dict[str, Tensor]], Measured]
) -> Iterator[tuple[Product, Kernels | None, Measured, Measured]]:
    """Yield each stale pair, the kernels used, and the result of `measure` for its two replicas.

    `measure` takes the task or sparse network that computes outputs, and the weights; it runs once per replica. Kernels
    are those to record in provenance; None: those of the process.
    """
    for _, cell in itertools.groupby(job.products, lambda product: product.coordinates["density"]):
        pairs = list(cell)
        check_stop(job, pairs[0])
        replicas, masks = replica_weights(task, pairs)
        network = sparse_network(task, masks, replicas.values())
        measured = {path: measure(network or task, weights) for path, weights in replicas.items()}
        for product in pairs:
            check_stop(job, product)
            first, second = (measured[product.inputs[role]] for role in ("first", "second"))
            yield product, network.computed_with if network else None, first, second
