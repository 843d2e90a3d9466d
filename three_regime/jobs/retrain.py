"""Retrain each replica of each density from the pruned weights, masks fixed, without rewinding (authors' code)."""

from __future__ import annotations

from functools import partial

from three_regime.jobs.context import measured, session_of, task_of
from three_regime.jobs.job import Job
from three_regime.pruning.masks import join_masks, split_masks
from three_regime.random_streams import Streams
from three_regime.study.products import Product
from three_regime.system.files import read_arrays
from three_regime.tasks.interface import Task
from three_regime.tasks.strategies import sparse_network
from three_regime.training.trainer import Checkpoint, Member, train_pack


def compute(job: Job) -> None:
    """Train the stale replicas of the pack; each is written when it finishes."""
    task = task_of(job)
    members = [_member(job, task, product) for product in job.products]
    evaluated = job.products[0].recipe.get("last_epochs", 1)
    train_pack(task, job.study.config.retrain, members, session_of(job, evaluated))


def _member(job: Job, task: Task, product: Product) -> Member:
    source = product.inputs["pruned"]
    weights, masks = split_masks(read_arrays(source))
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
    by = checkpoint.computed_with
    network = sparse_network(task, masks, [checkpoint.weights], by) if by is not None else None
    found = measured(task, checkpoint.weights, str(product.outputs[-1]), network)
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
        computed_with=by,
    )
