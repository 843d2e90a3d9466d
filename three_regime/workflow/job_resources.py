"""Resources that a job requests: GPUs, and memory and run time that grow with each attempt."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.planning import pricing
from three_regime.planning.pricing import pricer_of, speed_of
from three_regime.study.grid import Study, wants_gpu
from three_regime.study.products import pack

if TYPE_CHECKING:
    from snakemake.io import Wildcards

MARGIN = 2.0
"""Ratio of requested to expected run time, because a cluster's machines differ from the measured ones (this project's
choice). A job that is cut off continues from its saved state, with more time."""

STEP_MIN = 10
"""Run times are rounded up to a multiple of this many minutes, which is also the minimum (start-up, reading data)."""


def gpus(config: Config, study: Study, stage: str) -> int:
    """GPUs that a job of the stage requests: one if it uses one."""
    return int(wants_gpu(config, study, stage))


def job_resources(
    config: Config, study: Study, stage: str, without_gpu: Callable[[], bool] = lambda: False
) -> dict[str, Callable[..., int]]:
    """The ``resources`` of a stage's rule.

    GPUs of `gpus`; memory as configured times the attempt; minutes of `first_runtime` times the attempt, at most
    ``max_runtime``.

    Parameters
    ----------
    without_gpu
        Whether the run's jobs find no GPU (`running.without_gpu`). Then they request none: they use the CPU, and must
        not wait for each other. Called when Snakemake plans the jobs, because only then is the executor known.
    """
    asked = getattr(study.config.resources, stage)
    requested = gpus(config, study, stage)

    def gpu(wildcards: Wildcards, attempt: int) -> int:
        return 0 if requested and without_gpu() else requested

    def mem_mb(wildcards: Wildcards, attempt: int) -> int:
        return asked.mem_mb * attempt

    def runtime(wildcards: Wildcards, attempt: int) -> int:
        at = [wildcards.get(name) for name in ("temperature", "density")]
        temperature = study.temperature_of(at[0]) if at[0] else None
        density = study.density_of(at[1]) if at[1] else None
        first = first_runtime(study, stage, temperature, density, config.threads, gpu=requested)
        return min(first * attempt, config.max_runtime)

    return {"gpu": gpu, "mem_mb": mem_mb, "runtime": runtime}


def first_runtime(
    study: Study,
    stage: str,
    temperature: float | None,
    density: float | None,
    threads: int,
    margin: float = MARGIN,
    gpu: int | None = None,
) -> int:
    """Minutes for a whole pack, from rates measured on a GPU (or a CPU, if the stage needs no GPU), else as configured.

    At least as configured if a measure of the pack states no work.

    Parameters
    ----------
    threads
        CPU threads of the job; CPU rates are rescaled if they were measured with more.
    gpu
        GPUs that the job requests; None: as configured for the stage.
    """
    asked = getattr(study.config.resources, stage)
    rates = _rates((asked.gpu if gpu is None else gpu) > 0)
    if rates is None:
        return asked.runtime
    measured = speed_of(rates, study)
    if measured is None:
        return asked.runtime
    products = pack(study, stage, study.config.dense_seeds[0], temperature, density)
    pricer = pricer_of(study)
    seconds = measured.seconds(pricer.job(products))  # an upper bound, without the gain from sparsity
    slower = 1.0 if rates.on_gpu else max(1.0, measured.threads / threads)
    minutes = margin * (pricing.OTHER_START_S + slower * seconds) / 60
    rounded = STEP_MIN * math.ceil(minutes / STEP_MIN)
    return max(rounded, asked.runtime) if stage == "measures" and pricer.unpriced_measures else rounded


@functools.cache
def _rates(gpu: bool) -> pricing.Rates | None:
    """The latest rates for this kind of device; None if there are none, e.g. without benchmarks/."""
    with contextlib.suppress(UserError):
        return pricing.read_rates(pricing.RATES, "cuda" if gpu else "cpu")
    return None
