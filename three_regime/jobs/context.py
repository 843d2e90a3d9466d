"""Shared by the modules of the stages: the task on its device, its metrics, and a session for the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from three_regime import kernels
from three_regime.jobs.job import Job
from three_regime.pruning.masks import Masks
from three_regime.system.device import convolution_precision
from three_regime.tasks.interface import SparseNetwork, Task
from three_regime.tasks.strategies import sparse_network
from three_regime.training.trainer import Checkpoint, Session


def task_of(job: Job) -> Task:
    """The study's task, with its data on the job's device; sets torch's thread count and the allowed kernels."""
    torch.set_num_threads(job.config.threads)
    kernels.allow(job.config.kernels)
    return job.study.setting.task(job.study, job.device)


def session_of(job: Job, evaluate_last: int = 0) -> Session:
    """The trainer's session for this job."""
    return Session(
        job.config.threads, job.config.state_every_s, job.stop, evaluate_last, job.study.config.lockstep
    )  # fmt: skip


def engine_of(task: Task, masks: Masks, checkpoint: Checkpoint) -> SparseNetwork | None:
    """The sparse engine that trained a checkpoint, to measure it as well; None if the task's network is to do that."""
    by = checkpoint.computed_with
    return None if by is None or checkpoint.together else sparse_network(task, masks, [checkpoint.weights], by)


def measured(
    task: Task, arrays: Mapping[str, np.ndarray], source: str, network: SparseNetwork | None = None
) -> dict[str, Any]:
    """Metrics of a checkpoint with its own statistics: ``train``, ``test`` and, for translation, ``scores``.

    `network` evaluates it if given.
    """
    with convolution_precision(tf32=False):
        weights = task.load(arrays, source)
        found: dict[str, Any] = {
            split: asdict((network or task).evaluate(weights, split)) for split in ("train", "test")
        }
        scores = task.scores(weights)
    return {**found, "scores": scores} if scores else found
