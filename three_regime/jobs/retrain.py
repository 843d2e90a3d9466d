"""Retrain each replica of each density, masks fixed, from the pruned weights (authors' code) or from a control.

Controls are newly drawn weights (Frankle and Carbin, ICLR 2019) and the weights of an earlier epoch of the dense run
(Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020).
"""

from __future__ import annotations

from functools import partial

from three_regime.jobs.context import engine_of, measured, session_of, task_of
from three_regime.jobs.job import Job
from three_regime.pruning.masks import apply_masks, join_masks, split_masks
from three_regime.random_streams import Streams
from three_regime.study.products import Product
from three_regime.system.files import Arrays, read_arrays
from three_regime.tasks.interface import Task
from three_regime.training.trainer import Checkpoint, Member, train_pack


def compute(job: Job) -> None:
    """Train the stale replicas of the pack; each is written when it finishes."""
    task = task_of(job)
    start = _other_start(job, task)
    members = [_member(job, task, product, start) for product in job.products]
    evaluated = job.products[0].recipe.get("last_epochs", 1)
    train_pack(task, job.study.config.retrain, members, session_of(job, evaluated))


def _other_start(job: Job, task: Task) -> Arrays | None:
    """Parameters and buffers of a control to start from; None: start from the pruned network."""
    first = job.products[0]
    match first.recipe.get("start", "pruned"):
        case "reinitialised":
            # One draw for all replicas, so they differ only by the noise of training, as in the paper.
            return task.initial_weights(Streams(tuple(first.recipe["initialisation"])))
        case "rewound":
            return read_arrays(first.inputs["rewound"])
    return None


def _member(job: Job, task: Task, product: Product, start: Arrays | None) -> Member:
    source = product.inputs["pruned"]
    weights, masks = split_masks(read_arrays(source))
    if start is not None:
        weights = apply_masks(start, masks)
    task.load(weights, str(source))
    return Member(
        label=product.label,
        key=product.fingerprint,
        streams=Streams(("retrain", job.seed, product.coordinates["replica"])),
        start=weights,
        masks=masks,
        checkpoints=(),
        state=job.state_file(product),
        deliver=partial(_commit, job, task, product, masks),
    )


def _commit(job: Job, task: Task, product: Product, masks: dict, checkpoint: Checkpoint) -> None:
    found = measured(task, checkpoint.weights, str(product.outputs[-1]), engine_of(task, masks, checkpoint))
    last = checkpoint.history[-product.recipe.get("last_epochs", 1) :]
    results = {
        "epoch": checkpoint.epoch,
        "test_error": job.study.setting.retrained_error(found, last),
        **found,
        "history": checkpoint.history,
    }
    job.commit(
        product,
        results,
        join_masks(checkpoint.weights, masks),
        wall_s=checkpoint.wall_s,
        together=checkpoint.together,
        computed_with=checkpoint.computed_with,
    )
