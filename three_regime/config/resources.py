"""Resources that the jobs of a study request: `resources`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from three_regime.config.section import Positive, Section


class StageResources(Section):
    """Resources of one job of a stage."""

    gpu: int = Field(1, ge=0, le=1, description="Whether a job uses a GPU; without one it runs on the CPU and logs it.")
    mem_mb: Positive = Field(8000, description="Memory in MB of the first attempt (this project's choice).")
    runtime: Positive = Field(
        240, description="Minutes of the first attempt if no rates were measured (this project's choice)."
    )


class Resources(Section):
    """Resources of each heavy stage."""

    dense: StageResources = StageResources(runtime=240)
    prune: StageResources = StageResources(gpu=0, mem_mb=2000, runtime=20)
    retrain: StageResources = StageResources(runtime=1440)
    lmc: StageResources = StageResources(runtime=240)
    cka: StageResources = StageResources(runtime=60)
    measures: StageResources = StageResources(runtime=240)

    @model_validator(mode="before")
    @classmethod
    def _without_evaluate(cls, values: Any) -> Any:
        """Accept settings written by earlier versions, which contain a stage that never existed."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key != "evaluate"}
