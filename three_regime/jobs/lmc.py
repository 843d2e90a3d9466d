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
    measure = job.study.config.measure
    batch_size, images = measure.batch_size, measure.train_images
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
                points=measure.points,
                batch_size=batch_size,
                images=images,
            )
            if measure.bleu_along_line:
                points = (connectivity.between(task, first[0], second[0], t) for t in results["t"])
                results["bleu"] = [task.scores(point, ("validation",))["validation"]["bleu"] for point in points]
            log.info("%s: LMC %+.4f", product.label, results["lmc"])
            job.commit(product, results, wall_s=time.monotonic() - began)
            began = time.monotonic()
