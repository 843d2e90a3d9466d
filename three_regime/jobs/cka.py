"""Output similarity of every pair of replicas, each with its own BatchNorm statistics (A)."""

from __future__ import annotations

import logging
import time

from three_regime.config.measuring import CKA_TOKENS
from three_regime.jobs.context import task_of
from three_regime.jobs.job import Job
from three_regime.jobs.pairs import measured_pairs
from three_regime.landscape.linear_cka import condensed_kinds, similarity
from three_regime.training.trainer import convolution_precision

log = logging.getLogger(__name__)


def compute(job: Job) -> None:
    """Measure the stale pairs; the outputs of each replica are computed once."""
    task = task_of(job)
    recipe = job.products[0].recipe
    inputs = "images" if "images" in recipe else "tokens"
    count = recipe[inputs]
    if inputs == "tokens" and count == CKA_TOKENS > task.comparable:
        count = task.comparable
        log.info("CKA on all %d target tokens of the measured pairs: fewer than the default's %d", count, CKA_TOKENS)
    began = time.monotonic()
    with convolution_precision(tf32=False), job.stop.at_once():
        pairs = measured_pairs(job, task, lambda network, weights: condensed_kinds(network.outputs(weights, count)))
        for product, computed_with, first, second in pairs:
            results = similarity(first, second, inputs)
            log.info("%s: CKA %.4f (softmax)", product.label, results["softmax"])
            job.commit(product, results, wall_s=time.monotonic() - began, computed_with=computed_with)
            began = time.monotonic()
