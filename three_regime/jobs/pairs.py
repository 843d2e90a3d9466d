"""What LMC and CKA share: the replicas that a pack's stale pairs need, each loaded and measured once."""

from __future__ import annotations

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


def replicas_of_pairs(
    job: Job, task: Task, measure: Callable[[dict[str, Tensor]], Measured]
) -> Iterator[tuple[Product, tuple[dict[str, Tensor], Measured], tuple[dict[str, Tensor], Measured]]]:
    """Yield each stale pair with (weights, measured) of its two replicas.

    `measure` runs once a replica; replicas are dropped when the cell is done.

    Raises
    ------
    Interrupted
        When a stop was requested; finished pairs have been written.
    """
    known: dict[Path, tuple[dict[str, Tensor], Measured]] = {}
    density = None
    for product in job.products:
        if job.stop.requested:
            raise Interrupted(f"{job.stop.reason}: {product.label} was not begun")
        if product.coordinates["density"] != density:
            density = product.coordinates["density"]
            known.clear()
        for role in ("first", "second"):
            path = product.inputs[role]
            if path not in known:
                weights = task.load(split_masks(read_arrays(path))[0], str(path))
                known[path] = (weights, measure(weights))
        yield product, known[product.inputs["first"]], known[product.inputs["second"]]
