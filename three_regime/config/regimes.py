"""Where one regime ends and the next begins: for the whole run, and a study's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from three_regime.config.section import Section
from three_regime.config.thresholds import Thresholds
from three_regime.datasets.registry import DATASETS
from three_regime.names import registered

FITTED_ON = "cifar10"
"""Data set of the published Figure 2, on which the defaults are fitted."""

Lmc = Annotated[float, Field(ge=-1, lt=0)]
Cka = Annotated[float, Field(gt=0, lt=1)]


class Regimes(Section):
    """Where one regime ends and the next begins, in every study without `regimes` of its own and in Figure 2."""

    lmc: Lmc = Field(
        Thresholds.lmc,
        description="Regime I is LMC below this. Default: middle of the plateau fitted on the published Figure 2.",
    )
    cka: Cka = Field(Thresholds.cka, description="Among connected cells, II-B is softmax CKA above this (same fit).")
    dataset: str | None = Field(
        None, description="Data set that these were set for: plan and figures name it where a study on another inherits"
        " them. null: cifar10 for a value that is the default, else the data sets of the run's studies."
    )  # fmt: skip

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return None if name is None else registered(name, DATASETS, "dataset")

    @property
    def thresholds(self) -> Thresholds:
        """As they are, for the published figure."""
        return Thresholds(lmc=self.lmc, cka=self.cka)


class OwnRegimes(Section):
    """A study's own thresholds; null takes that of the top level's `regimes`."""

    lmc: Lmc | None = Field(None, description="Regime I of this study is LMC below this (this project's choice).")
    cka: Cka | None = Field(None, description="II-B of this study is softmax CKA above this (this project's choice).")

    def over(self, general: Regimes, dataset: str) -> Thresholds:
        """The thresholds in force in a study on `dataset`, where `general` are those of the top level.

        A value that repeats the general one counts as inherited too.
        """
        values, sources = {}, set()
        for key in ("lmc", "cka"):
            own, run, default = getattr(self, key), getattr(general, key), getattr(Thresholds, key)
            values[key] = run if own is None else own
            if values[key] == run:
                sources.add(general.dataset or (FITTED_ON if run == default else dataset))
        return Thresholds(**values, inherited=", ".join(sorted(sources - {dataset})))
