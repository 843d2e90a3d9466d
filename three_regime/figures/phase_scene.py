"""What the panels of a phase diagram share: cells, regimes, borders, and the room that they have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from three_regime.analysis.regimes import CHANCE, REGIMES
from three_regime.config.knobs import Knob
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.figures import style
from three_regime.figures.borders import border_lines
from three_regime.figures.cells import Plane, require
from three_regime.figures.panels import panel_of

_CODES = {name: code for code, name in enumerate(REGIMES)}


@dataclass(frozen=True)
class Border:
    """How the border called `name` in `Thresholds` is drawn, and what it means that there is none."""

    name: str
    dash: object
    what: str
    measure: str


BORDERS = (
    Border("lmc", "-", "border of Regime I", "LMC"),
    Border("cka", (0, (3.2, 1.4)), "border II-A / II-B", "CKA"),
)


@dataclass(frozen=True)
class Scene:
    """What all panels of a figure share.

    Attributes
    ----------
    panel_width
        Inches, about.
    code
        Shape (rows, columns): index into `REGIMES`, or NaN.
    decided
        Same shape, true where a cell's label is decided.
    confident
        Whether labels are decided by their confidence; with one dense seed it is the distance from the thresholds.
    chance
        Same shape, true where a cell's networks answer at chance.
    lines
        Polylines in cell coordinates by border.
    """

    knob: Knob
    plane: Plane
    panel_width: float
    grid: pd.DataFrame
    code: np.ndarray
    decided: np.ndarray
    confident: bool
    chance: np.ndarray
    lines: dict[str, list[np.ndarray]]
    thresholds: Thresholds

    @classmethod
    def of(
        cls, grid: pd.DataFrame, regimes: pd.DataFrame, knob: Knob, thresholds: Thresholds, panel_width: float
    ) -> Scene:
        plane = Plane.of(grid, knob)
        require(regimes, ("regime", "decided"), "regimes.csv")
        unknown = set(regimes["regime"].dropna()) - {*REGIMES, CHANCE}
        if unknown:
            raise UserError(f"regimes.csv holds the regime {sorted(unknown)[0]!r}; known are {', '.join(REGIMES)}")
        names = plane.matrix(regimes, "regime", "regimes.csv")
        code = np.array([[_CODES.get(name, np.nan) for name in row] for row in names], dtype=float)
        labelled = plane.matrix(regimes, "decided", "regimes.csv")
        decided = ~np.isnan(code) & np.where(pd.isna(labelled), 0, labelled).astype(bool)
        connected = np.where(code == 0, np.nan, code - 1)
        inside = {"lmc": np.where(np.isnan(code), np.nan, code == 0), "cka": connected}
        lines = {name: border_lines(region) for name, region in inside.items()}
        confident = "confidence" not in regimes or bool(regimes["confidence"].notna().any())
        return cls(knob, plane, panel_width, grid, code, decided, confident, names == CHANCE, lines, thresholds)

    @property
    def height(self) -> float:
        """Inches for the cells: room for a 7 pt label a row, a value and a name where there are few, never flat."""
        rows = self.plane.shape[0]
        return max(1.3, min(0.28 * rows, 1.7), 0.125 * rows)

    @property
    def cell(self) -> tuple[float, float]:
        """Inches, about, of a cell: width and height."""
        rows, columns = self.plane.shape
        return self.panel_width / columns, self.height / rows

    def values(self, name: str) -> np.ndarray:
        """Shape (rows, columns): the measure `name` in the unit of its panel, NaN where not run or at chance."""
        values = self.plane.matrix(self.grid, name).astype(float) * panel_of(name).factor
        return np.where(self.chance, np.nan, values)

    def missing(self, name: str) -> np.ndarray:
        """Shape (rows, columns): true where the measure `name` was not run."""
        return pd.isna(self.plane.matrix(self.grid, name))

    def standard_errors(self, name: str) -> np.ndarray:
        """Shape (rows, columns): those of `values`, NaN where unknown."""
        if f"{name}_se" not in self.grid:
            return np.full(self.plane.shape, np.nan)
        errors = self.plane.matrix(self.grid, f"{name}_se").astype(float) * panel_of(name).factor
        return np.where(self.chance, np.nan, errors)

    def printed(self, name: str) -> list[list[str]] | None:
        """The values as they stand in the cells, with as many decimals as fit; None where cells are too small.

        A value that these decimals put onto its threshold, or across it, has one more; where that does not help or
        does not fit, the text is empty.
        """
        most = panel_of(name).decimals
        threshold = {"lmc": self.thresholds.lmc, "cka_softmax": self.thresholds.cka}.get(name, np.nan)
        for decimals in range(most, min(2, most) - 1, -1):
            texts = [[printed_number(value, decimals) for value in row] for row in self.values(name)]
            if self.cell[1] >= _PRINTED_HEIGHT and all(self._fits(text) for row in texts for text in row):
                return [[self._agreeing(value, decimals, threshold) for value in row] for row in self.values(name)]
        return None

    def _fits(self, text: str) -> bool:
        return len(text) * style.DIGIT <= 0.94 * self.cell[0]

    def _agreeing(self, value: float, decimals: int, threshold: float) -> str:
        """`value` with so many decimals, or one more, that it stays on its side of `threshold`; else empty."""
        for more in (decimals, decimals + 1):
            if not _contradicts(value, more, threshold):
                text = printed_number(value, more)
                return text if self._fits(text) else ""
        return ""

    def one_seed(self, name: str) -> np.ndarray:
        """Shape (rows, columns): true where one dense seed dominates the spread of the measure `name`."""
        column = f"{name}_one_seed"
        if column not in self.grid:
            return np.zeros(self.plane.shape, dtype=bool)
        return ~pd.isna(self.plane.matrix(self.grid, column)) & ~self.chance


_PRINTED_HEIGHT = 0.26
"""Inches that a cell needs for its value and the name of its region below."""


def _contradicts(value: float, decimals: int, threshold: float) -> bool:
    """Whether rounding puts `value` onto the threshold or across it."""
    rounded = round(value, decimals)
    if abs(rounded - threshold) < 1e-12:
        return abs(value - threshold) > 1e-12
    return (rounded < threshold) != (value < threshold)


def printed_number(value: float, decimals: int) -> str:
    return "" if np.isnan(value) else f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")
