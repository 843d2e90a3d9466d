"""Loads: what varies beside the temperature in a grid (paper: density; others as in the group's earlier work).

A study varies density. Studies that differ in one other load are joined into a grid over that load (`load_grids` in the
configuration). The load of a table is known by its column, ``density`` or ``load_<name>``; a table that merely states a
width or a number of images is not a grid over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from three_regime.models import families

if TYPE_CHECKING:
    from three_regime.config.study import StudyConfig


@dataclass(frozen=True)
class Load:
    """One load.

    Attributes
    ----------
    name
        Name in the configuration.
    label
        Axis label with unit.
    noun, plural
        Words for texts in figures ("at every density", "over all densities").
    factor
        From the unit of tables to that of the label.
    unit
        What follows a value in texts.
    of
        The value of a study, None if unknown; density, of which a study has several, has no such function.
    """

    name: str
    label: str
    noun: str
    plural: str
    factor: float = 1
    unit: str = ""
    of: Callable[[StudyConfig], float | None] | None = None

    @property
    def column(self) -> str:
        """Column in tables."""
        return "density" if self.of is None else f"load_{self.name}"

    def text(self, value: float) -> str:
        """A value in the unit of the label, as short as possible: 0.125 → ``12.5`` for density."""
        return f"{round(value * self.factor, 6):.12g}"


DENSITY = Load("density", "density (%)", "density", "densities", 100, " %")

LOADS: dict[str, Load] = {
    load.name: load
    for load in (
        DENSITY,
        Load("training_size", "training examples", "training-set size", "training-set sizes",
             of=lambda study: study.dataset.training_size),
        Load("label_noise", "label noise (%)", "label noise", "levels of label noise", 100, " %",
             of=lambda study: study.dataset.label_noise or 0.0),
        Load("width", "width of the model", "width", "widths",
             of=lambda study: families.parse(study.model).width),
    )
}  # fmt: skip


def load_of(columns: Iterable[str]) -> Load:
    """The load of a table with these columns."""
    names = set(columns)
    return next((load for load in LOADS.values() if load is not DENSITY and load.column in names), DENSITY)
