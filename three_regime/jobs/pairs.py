"""What LMC and CKA share: the replicas that a pack's stale pairs need, each loaded and measured once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from three_regime.errors import Interrupted
from three_regime.jobs import Job
from three_regime.pruning import split_masks
from three_regime.stages import Product
from three_regime.storage import read_arrays
from three_regime.tasks import Task

Measured = TypeVar("Measured")


def check_stop(job: Job, product: Product) -> None:
    """Raise `Interrupted` when a stop was requested; finished pairs have been written."""
    if job.stop.requested:
        raise Interrupted(f"{job.stop.reason}: {product.label} was not begun")


def replica_weights(task: Task, pairs: list[Product]) -> dict[Path, dict[str, Tensor]]:
    """Weights file → weights of each replica of these pairs."""
    paths = dict.fromkeys(product.inputs[role] for product in pairs for role in ("first", "second"))
    return {path: task.load(split_masks(read_arrays(path))[0], str(path)) for path in paths}


def measured_pairs(
    job: Job, task: Task, measure: Callable[[dict[str, Tensor]], Measured]
) -> Iterator[tuple[Product, Measured, Measured]]:
    """Yield each stale pair with what `measure` gives for its two replicas; it runs once a replica."""
    for _, cell in itertools.groupby(job.products, lambda product: product.coordinates["density"]):
        pairs = list(cell)
        check_stop(job, pairs[0])
        measured = {path: measure(weights) for path, weights in replica_weights(task, pairs).items()}
        for product in pairs:
            check_stop(job, product)
            yield product, measured[product.inputs["first"]], measured[product.inputs["second"]]
