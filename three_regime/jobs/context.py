"""What the computing modules share: the task on its device, and a session for the trainer."""

from __future__ import annotations

import torch

from three_regime.datasets import DATASETS
from three_regime.jobs import Job
from three_regime.tasks.image_classification import ImageClassification, from_prepared
from three_regime.training import Session


def task_of(job: Job) -> ImageClassification:
    """The study's task, with its data on the job's device; sets torch's thread count."""
    torch.set_num_threads(job.config.threads)
    choice = job.study.config.dataset
    return from_prepared(
        job.study.prepared,
        DATASETS[choice.name],
        job.study.config.model,
        torch.device(job.device),
        choice.train_images,
        choice.test_images,
    )


def session_of(job: Job, evaluate_last: int = 0) -> Session:
    """The circumstances of training in this job."""
    return Session(
        job.config.threads, job.config.state_every_s, job.stop, evaluate_last, job.study.config.lockstep
    )  # fmt: skip
