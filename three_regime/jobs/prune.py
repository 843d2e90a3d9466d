"""Prune a dense checkpoint to each density; NumPy only unless the criterion needs gradients."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from three_regime.errors import UserError
from three_regime.jobs.job import Job
from three_regime.pruning.allocation import masks_of
from three_regime.pruning.criteria import CRITERIA, Known, checked, densities
from three_regime.pruning.masks import Masks, apply_masks, join_masks, sparsity
from three_regime.random_streams import Streams
from three_regime.study.fingerprints import input_digest
from three_regime.system.files import read_arrays, read_metadata

Gradients = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def compute(job: Job) -> None:
    """Compute and write masks, pruned weights and exact counts for each density."""
    source = job.products[0].inputs["dense"]
    dense = read_arrays(source)
    about = read_metadata(source)
    if not {"prunable", "parameters"} <= about.keys():
        raise UserError(f"{source} does not say which weights are prunable: it is not a checkpoint of stage dense")
    prunable, parameters = json.loads(about["prunable"]), int(about["parameters"])
    gradients = _gradients(job, prunable) if CRITERIA[job.study.config.prune.criterion].needs_gradients else None
    first = gradients(dense) if gradients else None  # the same for all densities
    for product in job.products:
        began = time.monotonic()
        masks = _masks(job, dense, prunable, product.recipe["density"], gradients, first)
        counts = sparsity(masks, parameters)
        job.commit(
            product,
            {"sparsity": counts, "dense_digest": input_digest(source)},
            join_masks(apply_masks(dense, masks), masks),
            wall_s=time.monotonic() - began,
        )


def _masks(
    job: Job,
    dense: Mapping[str, np.ndarray],
    prunable: Sequence[str],
    density: float,
    gradients: Gradients | None,
    first: Mapping[str, np.ndarray] | None,
) -> Masks:
    """Masks by the study's criterion; weights removed in one round stay removed in the next."""
    prune = job.study.config.prune
    criterion, streams = CRITERIA[prune.criterion], Streams(("prune", job.seed))
    masks: Masks = {}
    for wanted in densities(density, prune.rounds):
        weights = apply_masks(dense, masks)
        known = Known(checked(weights, prunable), streams, gradients(weights) if gradients and masks else first)
        scores = criterion.score(known)
        if masks:  # below every score, because scores are at least 0
            scores = {name: np.where(masks[name], values, -1.0) for name, values in scores.items()}
        masks = masks_of(scores, wanted, prune.allocation)
    return masks


def _gradients(job: Job, prunable: Sequence[str]) -> Gradients:
    """Return a function that computes the gradients of the training loss with respect to the prunable weights.

    They are averaged over the first `gradient_batches` batches of a retraining epoch with its own stream, in training
    mode, on the CPU.
    """
    import torch

    from three_regime.jobs.context import task_of

    task, training = task_of(job), job.study.config.retrain
    epoch = task.epoch(Streams(("prune", job.seed)), 0, training)
    batches = [
        batch
        for step in range(min(job.study.config.prune.gradient_batches, epoch.steps))
        for batch in epoch.micro_batches(step)
    ]

    def of(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        loaded = task.load(weights, "the network to prune")
        parameters = {name: loaded[name].requires_grad_() for name in task.parameters}
        buffers = {name: loaded[name] for name in task.buffers}
        sums = {name: torch.zeros(loaded[name].shape, dtype=torch.float64) for name in prunable}
        for batch in batches:
            loss, *_ = task.loss(parameters, buffers, batch)
            found = torch.autograd.grad(loss, [parameters[name] for name in prunable])
            for name, gradient in zip(prunable, found, strict=True):
                sums[name] += gradient.double()
        return {name: (total / len(batches)).numpy() for name, total in sums.items()}

    return of
