"""Linear mode connectivity of every pair of replicas."""

from __future__ import annotations

import logging
import time

from three_regime import connectivity
from three_regime.jobs import Job
from three_regime.jobs.context import task_of
from three_regime.jobs.pairs import replicas_of_pairs
from three_regime.training import convolution_precision

log = logging.getLogger(__name__)


def compute(job: Job) -> None:
    """Measure the stale pairs; the ends of the lines once a replica."""
    task = task_of(job)
    settings = job.products[0].recipe
    batch_size, images = settings["batch_size"], settings["measured_images"]
    began = time.monotonic()
    with convolution_precision(tf32=False), job.stop.at_once():
        for product, first, second in replicas_of_pairs(
            job, task, lambda weights: connectivity.measure(task, weights, batch_size, images)
        ):
            results = connectivity.line(
                task,
                first[0],
                second[0],
                (first[1], second[1]),
                points=settings["points"],
                batch_size=batch_size,
                images=images,
            )
            log.info("%s: LMC %+.4f", product.label, results["lmc"])
            job.commit(product, results, wall_s=time.monotonic() - began)
            began = time.monotonic()
