"""Prune a dense checkpoint to each density; NumPy only unless gradients are needed or rounds train.

In n rounds, round k prunes to the density d^(k/n), where d is the density wanted, so each removes the same fraction of
the remaining weights. With `prune.epochs` the network is trained with its masks between two rounds (Han et al. 2015),
from the weights that it has then: nothing is rewound. Removed weights stay removed. Training after round k draws from
the stream ``("prune", dense seed, "round", k)``, shared over temperatures and densities as in retraining; retraining
starts from the weights of the last round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from three_regime.errors import UserError
from three_regime.jobs.job import Job, state_file
from three_regime.pruning.allocation import masks_of
from three_regime.pruning.criteria import CRITERIA, Known, checked, densities
from three_regime.pruning.masks import Masks, apply_masks, join_masks, sparsity
from three_regime.random_streams import Streams
from three_regime.study.fingerprints import input_digest
from three_regime.study.products import Product
from three_regime.system.files import Arrays, read_arrays, read_metadata

if TYPE_CHECKING:
    from three_regime.kernels import Kernels
    from three_regime.tasks.interface import Task

Gradients = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def compute(job: Job) -> None:
    """Compute and write masks, pruned weights and exact counts for each density."""
    source = job.products[0].inputs["dense"]
    dense = read_arrays(source)
    about = read_metadata(source)
    if not {"prunable", "parameters"} <= about.keys():
        raise UserError(f"{source} does not say which weights are prunable: it is not a checkpoint of stage dense")
    prunable, parameters = json.loads(about["prunable"]), int(about["parameters"])
    prune = job.study.config.prune
    task = _task(job) if prune.needs_data else None
    gradients = _gradients(job, task, prunable) if task and CRITERIA[prune.criterion].needs_gradients else None
    first = gradients(dense) if gradients else None  # the same for all densities
    for product in job.products:
        began = time.monotonic()
        train = _Training(job, task, product) if task and prune.trains else None
        weights, masks = _pruned(job, dense, prunable, product.recipe["density"], gradients, first, train)
        rounds = {"rounds": train.rounds} if train else {}
        job.commit(
            product,
            {"sparsity": sparsity(masks, parameters), "dense_digest": input_digest(source), **rounds},
            join_masks(apply_masks(weights, masks), masks),
            wall_s=time.monotonic() - began + (train.earlier_s if train else 0.0),
            computed_with=train.computed_with if train else None,
        )


def _pruned(
    job: Job,
    dense: Mapping[str, np.ndarray],
    prunable: Sequence[str],
    density: float,
    gradients: Gradients | None,
    first: Mapping[str, np.ndarray] | None,
    train: _Training | None,
) -> tuple[Arrays, Masks]:
    """Weights and masks by the study's criterion; weights removed in one round stay removed in the next."""
    prune = job.study.config.prune
    criterion, streams = CRITERIA[prune.criterion], Streams(("prune", job.seed))
    weights, masks = dict(dense), Masks()
    for number, wanted in enumerate(densities(density, prune.rounds), 1):
        known = Known(checked(weights, prunable), streams, gradients(weights) if gradients and masks else first)
        scores = criterion.score(known)
        if masks:  # below every score of a kept weight
            lowest = np.finfo(np.float64).min
            scores = {
                name: np.where(masks[name], np.maximum(values, lowest), -np.inf) for name, values in scores.items()
            }
        masks = masks_of(scores, wanted, prune.allocation)
        weights = apply_masks(weights, masks)
        if train and number < prune.rounds:
            weights = train(number, weights, masks)
    return weights, masks


class _Training:
    """Training of one product between rounds; `rounds` describes those that are finished, with exact counts.

    The state at the end of each round is kept until the product is written, so an interrupted job continues after the
    last finished round, or within it, with the same bits.
    """

    def __init__(self, job: Job, task: Task, product: Product) -> None:
        self.job, self.task, self.product = job, task, product
        self.rounds: list[dict[str, Any]] = []
        self.earlier_s = 0.0
        self.computed_with: Kernels | None = None

    def __call__(self, number: int, weights: Arrays, masks: Masks) -> Arrays:
        from three_regime.jobs.context import session_of
        from three_regime.training.trainer import Checkpoint, Member, train_pack

        found: list[Checkpoint] = []
        began = time.monotonic()
        member = Member(
            label=f"{self.product.label}, after round {number}",
            key=f"{self.product.fingerprint}/{number}",
            streams=Streams(("prune", self.job.seed, "round", number)),
            start=weights,
            masks=masks,
            checkpoints=(),
            state=state_file(self.job.study, self.product, number),
            deliver=found.append,
            keep_state=True,
        )
        train_pack(self.task, self.job.study.config.between_rounds, [member], session_of(self.job))
        [trained] = found
        self.earlier_s += trained.earlier_s(began)
        self.computed_with = trained.computed_with
        counts = {
            "kept": sum(int(mask.sum()) for mask in masks.values()),
            "total": sum(mask.size for mask in masks.values()),
        }
        self.rounds.append({"round": number, **counts, **trained.history[-1]})
        return trained.weights


def _task(job: Job) -> Task:
    from three_regime.jobs.context import task_of

    return task_of(job)


def _gradients(job: Job, task: Task, prunable: Sequence[str]) -> Gradients:
    """Return a function that computes the gradients of the training loss with respect to the prunable weights.

    They are averaged over the first `gradient_batches` batches of a retraining epoch with its own stream, in training
    mode.
    """
    import torch

    from three_regime.system.device import convolution_precision

    training = job.study.config.retrain
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
        sums = {name: torch.zeros_like(loaded[name], dtype=torch.float64) for name in prunable}
        for batch in batches:
            with convolution_precision(training.precision == "tf32"):
                loss, *_ = task.loss(parameters, buffers, batch)
                found = torch.autograd.grad(loss, [parameters[name] for name in prunable])
            for name, gradient in zip(prunable, found, strict=True):
                sums[name] += gradient.double()
        return {name: (total / len(batches)).cpu().numpy() for name, total in sums.items()}

    return of
