"""Compute CKA of every pair of replicas, each with its own BatchNorm statistics (authors' code)."""

from __future__ import annotations

import logging
import time

import numpy as np

from three_regime.config import Measurement
from three_regime.jobs.context import task_of
from three_regime.jobs.job import Job
from three_regime.jobs.pairs import measured_pairs
from three_regime.landscape.linear_cka import condensed_kinds, similarity
from three_regime.system.device import convolution_precision

log = logging.getLogger(__name__)


def compute(job: Job) -> None:
    """Measure the stale pairs; the outputs of each replica are computed once."""
    task = task_of(job)
    setting = job.study.setting
    count, default = job.products[0].recipe[setting.unit], setting.cka_recipe(Measurement())[setting.unit]
    if count == default > task.comparable:
        count = task.comparable
        log.info("CKA on all %d %s: fewer than the default %d", count, setting.inputs, default)
    began = time.monotonic()
    with convolution_precision(tf32=False), job.stop.at_once():
        pairs = measured_pairs(job, task, lambda network, weights: condensed_kinds(network.outputs(weights, count)))
        for product, computed_with, first, second in pairs:
            results = similarity(first, second, setting.unit)
            log.info("%s: CKA %.4f (softmax)", product.label, results["softmax"])
            if undefined := [kind for kind, value in results.items() if np.isnan(value)]:
                log.warning("%s: CKA of %s is undefined: a network's outputs are constant", product.label, undefined)
                results |= dict.fromkeys(undefined)
            with job.going_on():
                job.commit(product, results, wall_s=time.monotonic() - began, computed_with=computed_with)
            began = time.monotonic()
