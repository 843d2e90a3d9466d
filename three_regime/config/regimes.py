"""LMC and CKA thresholds that separate the regimes: of the whole run, and of a study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from three_regime.config.section import Section
from three_regime.config.thresholds import Thresholds
from three_regime.datasets.registry import DATASETS
from three_regime.names import registered

FITTED_ON = "cifar10"
"""Data set of the published Figure 2, to which the defaults are fitted."""

Lmc = Annotated[float, Field(ge=-1, lt=0)]
Cka = Annotated[float, Field(gt=0, lt=1)]


class Regimes(Section):
    """Thresholds that separate the regimes, in Figure 2 and in every study without its own `regimes`."""

    lmc: Lmc = Field(
        Thresholds.lmc,
        description="Regime I: LMC below this. Default: a value on the plateau that fits the published Figure 2 best.",
    )
    cka: Cka = Field(
        Thresholds.cka, description="II-B: connected, and softmax CKA at least this (this project's choice)."
    )
    dataset: str | None = Field(
        None, description="Data set that the thresholds were set for; plan and figures name it if a study on another"
        " one inherits them. null: cifar10 for default values, else the data sets of the run's studies."
    )  # fmt: skip

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return None if name is None else registered(name, DATASETS, "dataset")

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds for the published figure."""
        return Thresholds(lmc=self.lmc, cka=self.cka)


class OwnRegimes(Section):
    """A study's own thresholds; null: those of the top-level `regimes`."""

    lmc: Lmc | None = Field(None, description="Regime I of this study: LMC below this (this project's choice).")
    cka: Cka | None = Field(None, description="II-B of this study: softmax CKA at least this (this project's choice).")

    def over(self, general: Regimes, dataset: str) -> Thresholds:
        """Effective thresholds of a study on `dataset`; `general` are those of the top level.

        A value equal to the general one counts as inherited.
        """
        values, sources = {}, set()
        for key in ("lmc", "cka"):
            own, run, default = getattr(self, key), getattr(general, key), getattr(Thresholds, key)
            values[key] = run if own is None else own
            if values[key] == run:
                sources.add(general.dataset or (FITTED_ON if run == default else dataset))
        return Thresholds(**values, inherited=", ".join(sorted(sources - {dataset})))
