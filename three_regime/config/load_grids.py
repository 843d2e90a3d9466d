"""Grids over a load other than density: `load_grids`, each joined from studies that differ in that load."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from three_regime.config.loads import DENSITY, LOADS, Load
from three_regime.config.section import Density, Section
from three_regime.config.study import StudyConfig
from three_regime.names import registered


class LoadGridConfig(Section):
    """One temperature x load grid; each study gives the cells of one value of the load, at one density."""

    load: str = Field(description="What differs between the studies: training_size, label_noise or width.")
    density: Density = Field(description="Density at which every study is read.")
    studies: tuple[str, ...] = Field(min_length=2, description="Studies of `run`, one for each value of the load.")

    @field_validator("load")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, LOADS.keys() - {DENSITY.name}, "load")

    @property
    def axis(self) -> Load:
        """What the columns of the grid are."""
        return LOADS[self.load]

    def check(self, studies: Mapping[str, StudyConfig]) -> None:
        """Raise ``ValueError`` unless the studies have the density, share data set and knob, and differ in the load."""
        for name in self.studies:
            registered(name, studies, "study of `run`")
            if self.density not in studies[name].densities:
                raise ValueError(f"{name} has no density {self.density:g}; it has {list(studies[name].densities)}")
        values = {name: self.value(studies[name]) for name in self.studies}
        for name, value in values.items():
            if value is None:
                raise ValueError(f"the {self.axis.noun} of {name} is unknown; state it in its `dataset`")
        if len(set(values.values())) < len(values):
            stated = ", ".join(f"{name} {value:g}" for name, value in values.items())
            raise ValueError(f"each study needs a {self.axis.noun} of its own, but they have {stated}")
        first, *others = self.studies
        for name in others:
            for key, theirs in _compared(studies[name]).items():
                if theirs != (ours := _compared(studies[first])[key]):
                    raise ValueError(f"{first} and {name} have another {key} ({ours}, {theirs})")

    def value(self, study: StudyConfig) -> float | None:
        """The load of a study."""
        assert self.axis.of is not None
        return self.axis.of(study)


def _compared(study: StudyConfig) -> dict[str, object]:
    """Settings that the studies of a grid share, by their keys."""
    return {"knob": study.knob, "dataset.name": study.dataset.name, "regimes": study.regimes}
