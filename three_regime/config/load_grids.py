"""Grids over a load other than density: `load_grids`, each joined from studies that differ in that load."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from three_regime.config.loads import DENSITY, LOADS, Load
from three_regime.config.regimes import Regimes
from three_regime.config.section import Density, Section
from three_regime.config.study import StudyConfig
from three_regime.models import families
from three_regime.names import registered


class LoadGridConfig(Section):
    """One temperature x load grid; each study gives the cells of one value of the load, at one density."""

    load: str = Field(description="What differs between the studies: training_size, label_noise or width.")
    density: Density = Field(description="Density at which every study is read.")
    studies: tuple[str, ...] = Field(
        min_length=2,
        description="Studies, one for each value of the load; the grid is made if all of them are in `run`.",
    )

    @field_validator("load")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, LOADS.keys() - {DENSITY.name}, "load")

    @field_validator("studies")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"{list(names)} holds a study twice")
        return names

    @property
    def axis(self) -> Load:
        """What the columns of the grid are."""
        return LOADS[self.load]

    def check(self, studies: Mapping[str, StudyConfig], regimes: Regimes) -> None:
        """Raise ``ValueError`` unless the studies have the density, share data set and knob, and differ in the load.

        Parameters
        ----------
        studies
            Every study of the configuration.
        regimes
            Thresholds of the configuration, for studies without their own.
        """
        for name in self.studies:
            registered(name, studies, "study")
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
        shared = self._shared(studies[first], regimes)
        for name in others:
            for key, theirs in self._shared(studies[name], regimes).items():
                if theirs != shared[key]:
                    raise ValueError(f"its studies must share {key}: {first} has {shared[key]}, {name} {theirs}")

    def value(self, study: StudyConfig) -> float | None:
        """The load of a study."""
        assert self.axis.of is not None
        return self.axis.of(study)

    def _shared(self, study: StudyConfig, regimes: Regimes) -> dict[str, object]:
        """Settings that the studies of a grid share, by the words of a message."""
        data, thresholds = study.dataset, study.regimes.over(regimes, study.dataset.name)
        model = families.parse(study.model)
        others = {load.noun: load.of(study) for load in LOADS.values() if load.of and load is not self.axis}
        return {
            "the knob": study.knob,
            **{f"dataset.{key}": getattr(data, key) for key in ("name", "files", "languages")},
            "the LMC threshold": thresholds.lmc,
            "the CKA threshold": thresholds.cka,
            "the model's family and depth": f"{model.family}-{model.depth}",
            **{f"the {noun}": value for noun, value in others.items()},
        }
