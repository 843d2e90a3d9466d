"""Dense training: one run for all early-stop checkpoints of the epochs knob; otherwise one run per temperature."""

from __future__ import annotations

import json
import math

from three_regime.jobs.context import engine_of, measured, session_of, task_of
from three_regime.jobs.job import Job
from three_regime.random_streams import Streams
from three_regime.study.fingerprints import fingerprint_of, input_digest
from three_regime.study.grid import Study
from three_regime.study.products import Product, training_recipe
from three_regime.tasks.interface import Task
from three_regime.training.trainer import Checkpoint, Member, train_pack


def compute(job: Job) -> None:
    """Train, and write the stale checkpoints."""
    task = task_of(job)
    streams = Streams(("dense", job.seed))
    start = task.initial_weights(streams)
    one_run = job.study.one_dense_run
    by_epoch = {int(product.coordinates["temperature"]): product for product in job.products}
    training = job.study.config.dense_at(job.products[0].coordinates["temperature"])

    def deliver(checkpoint: Checkpoint) -> None:
        commit(job, task, by_epoch[checkpoint.epoch] if one_run else job.products[0], checkpoint)

    member = Member(
        label=f"dense, seed {job.seed}" if one_run else job.products[0].label,
        key=_run_key(job.study, job.products[0]),
        streams=streams,
        start=start,
        masks={},
        checkpoints=tuple(sorted(by_epoch)) if one_run else (),
        state=job.state_file(job.products[0]),
        deliver=deliver,
        keep_state=one_run,
    )
    train_pack(task, training, [member], session_of(job))


def commit(job: Job, task: Task, product: Product, checkpoint: Checkpoint) -> None:
    """Measure a dense checkpoint with its own BatchNorm statistics, and write it."""
    results = {
        "epoch": checkpoint.epoch,
        **measured(task, checkpoint.weights, str(product.outputs[-1]), engine_of(task, {}, checkpoint)),
        "history": checkpoint.history,
    }
    job.commit(
        product,
        results,
        checkpoint.weights,
        wall_s=checkpoint.wall_s,
        together=checkpoint.together,
        computed_with=checkpoint.computed_with,
        metadata=about_model(task),
    )


def about_model(task: Task) -> dict[str, str]:
    """Metadata that lets the prune stage work without the model and without torch."""
    parameters = sum(math.prod(shape) for shape in task.parameters.values())
    return {"prunable": json.dumps(task.prunable), "parameters": str(parameters)}


def _run_key(study: Study, product: Product) -> str:
    """Identity of a run, independent of its measurements, and of its length if that changes no step.

    So a later, longer run can continue it. The recipe of the single long run holds the length that a learning rate
    anneals over.
    """
    training = study.config.dense_at(product.coordinates["temperature"])
    recipe = training_recipe(training, training.epochs if study.one_dense_run else None)
    if study.one_dense_run or not training.anneals:
        recipe["length"] = None
    whole = {**product.recipe, "training": recipe}
    whole.pop("measured", None)
    return fingerprint_of(whole, {"data": input_digest(product.inputs["data"])})
