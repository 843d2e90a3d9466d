"""Paths of the logs and benchmarks of jobs."""

from __future__ import annotations

from three_regime.study.grid import Study
from three_regime.study.stages import STAGES


def job_path(study: Study, kind: str, stage: str, suffix: str) -> str:
    """Path of a rule's log or benchmark, with its wildcards: ``<results>/<kind>/<stage>/<study>/seed…``."""
    wildcards = ["seed{seed}"]
    if not (stage == "dense" and study.one_dense_run):
        wildcards.append("{temperature}")
        if STAGES[stage].place and not study.job_spans_densities:
            wildcards.append("{density}")
    return f"{study.root}/{kind}/{stage}/{study.name}/{'-'.join(wildcards)}{suffix}"
