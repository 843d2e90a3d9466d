"""`LoadGrid`: the cells of several studies side by side, as one grid over the load in which they differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from three_regime.config import Config
from three_regime.config.loads import Load
from three_regime.config.measures import measured_columns
from three_regime.config.thresholds import Thresholds
from three_regime.study.grid import Study, study_named
from three_regime.study.outputs import LOAD_GRID_FIGURES


@dataclass(frozen=True)
class LoadGrid:
    """A named temperature × load grid.

    Attributes
    ----------
    studies
        Value of the load → study, increasing.
    thresholds
        Those of the studies, which agree.
    """

    name: str
    load: Load
    density: float
    studies: dict[float, Study]
    root: Path
    thresholds: Thresholds

    cell_tables = ("cells",)

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of its figures: those of any grid, and of additional measures that every study has."""
        drawn = [set(study.figures) for study in self.studies.values()]
        return (*LOAD_GRID_FIGURES, *(name for name in measured_columns() if all(name in each for each in drawn)))


def load_grids(config: Config) -> list[LoadGrid]:
    """The grids of the configuration whose studies are all run."""
    found = []
    for name, own in config.run_load_grids.items():
        members = [study_named(config, each) for each in own.studies]
        values = {own.value(study.config): study for study in members}
        ordered = {value: values[value] for value in sorted(values)}
        found.append(LoadGrid(name, own.axis, own.density, ordered, Path(config.results), members[0].thresholds))
    return found
