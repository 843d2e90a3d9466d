"""Where one regime ends and the next begins: for the whole run, and a study's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from three_regime.config.section import Section
from three_regime.thresholds import Thresholds

Lmc = Annotated[float, Field(ge=-1, lt=0)]
Cka = Annotated[float, Field(gt=0, lt=1)]


class Regimes(Section):
    """Where one regime ends and the next begins, in every study without `regimes` of its own and in Figure 2."""

    lmc: Lmc = Field(
        Thresholds.lmc,
        description="Regime I is LMC below this. Default: middle of the plateau fitted on the published Figure 2"
        " (DESIGN section 6).",
    )
    cka: Cka = Field(Thresholds.cka, description="Among connected cells, II-B is softmax CKA above this (same fit).")


class OwnRegimes(Section):
    """A study's own thresholds; null takes that of the top level's `regimes`."""

    lmc: Lmc | None = Field(None, description="Regime I of this study is LMC below this (this project's choice).")
    cka: Cka | None = Field(None, description="II-B of this study is softmax CKA above this (this project's choice).")

    def over(self, general: Regimes) -> Thresholds:
        """The thresholds in force, where `general` are those of the top level."""
        return Thresholds(
            lmc=general.lmc if self.lmc is None else self.lmc, cka=general.cka if self.cka is None else self.cka
        )
