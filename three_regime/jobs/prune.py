"""Prune a dense checkpoint to each density; NumPy only."""

from __future__ import annotations

import json
import time

from three_regime.errors import UserError
from three_regime.jobs.job import Job
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks, join_masks, sparsity
from three_regime.study.fingerprints import input_digest
from three_regime.system.files import read_arrays, read_metadata


def compute(job: Job) -> None:
    """Compute and write masks, pruned weights and exact counts for each density."""
    source = job.products[0].inputs["dense"]
    dense = read_arrays(source)
    about = read_metadata(source)
    if not {"prunable", "parameters"} <= about.keys():
        raise UserError(f"{source} does not say which weights are prunable: it is not a checkpoint of stage dense")
    prunable, parameters = json.loads(about["prunable"]), int(about["parameters"])
    for product in job.products:
        began = time.monotonic()
        density, allocation = product.recipe["density"], product.recipe["allocation"]
        masks = magnitude_masks(dense, prunable, density, allocation)
        counts = sparsity(masks, parameters)
        job.commit(
            product,
            {"sparsity": counts, "dense_digest": input_digest(source)},
            join_masks(apply_masks(dense, masks), masks),
            wall_s=time.monotonic() - began,
        )
