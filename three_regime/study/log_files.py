"""Where the log and the benchmark of a rule's jobs lie."""

from __future__ import annotations

from three_regime.study.grid import Study
from three_regime.study.stages import STAGES


def job_path(study: Study, kind: str, stage: str, suffix: str) -> str:
    """Path of a rule's log or benchmark, with its wildcards: ``<results>/<kind>/<stage>/<study>/seed…``."""
    wildcards = ["seed{seed}"]
    if not (stage == "dense" and study.knob.setting is None):
        wildcards.append("{temperature}")
        if STAGES[stage].place and "density" not in study.config.pack:
            wildcards.append("{density}")
    return f"{study.root}/{kind}/{stage}/{study.name}/{'-'.join(wildcards)}{suffix}"
