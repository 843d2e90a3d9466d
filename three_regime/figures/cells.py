"""The plane of temperature and density, or another load: tables turned into matrices, checked for what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from three_regime.config.knobs import Knob
from three_regime.config.loads import Load, load_of
from three_regime.errors import UserError
from three_regime.figures import style


def require(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """Raise ``UserError`` naming the first of `columns` that the table `name` lacks."""
    for column in columns:
        if column not in table.columns:
            raise UserError(f"the table {name} has no column {column!r}; it has {', '.join(map(str, table.columns))}")


@dataclass(frozen=True)
class Plane:
    """The axes of a phase diagram; a cell is (row, column) = (temperature, load).

    Attributes
    ----------
    temperatures
        From the hottest (row 0) to the coldest.
    loads
        Increasing; densities are fractions in (0, 1].
    load
        What they are.
    """

    temperatures: tuple[float, ...]
    loads: tuple[float, ...]
    load: Load

    @classmethod
    def of(cls, grid: pd.DataFrame, knob: Knob) -> Plane:
        """The axes that `grid` spans.

        Raises
        ------
        UserError
            When the grid is empty, lacks a column, or holds more than one study or another knob.
        """
        load = load_of(grid)
        require(grid, ("temperature", load.column), "grid.csv")
        if grid.empty:
            raise UserError("grid.csv has no rows: there is nothing to draw")
        for column, allowed in (("study", 1), ("knob", 1)):
            if column in grid and grid[column].nunique() > allowed:
                names = ", ".join(map(str, grid[column].unique()))
                raise UserError(f"grid.csv holds more than one {column} ({names}): draw one at a time")
        if "knob" in grid and grid["knob"].iloc[0] != knob.name:
            raise UserError(f"grid.csv has the knob {grid['knob'].iloc[0]!r}, the figure was asked for {knob.name!r}")
        temperatures = knob.hot_first([float(value) for value in grid["temperature"].unique()])
        return cls(tuple(temperatures), tuple(sorted(float(value) for value in grid[load.column].unique())), load)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of temperatures and loads."""
        return len(self.temperatures), len(self.loads)

    @property
    def temperature_labels(self) -> list[str]:
        """Tick labels, the hottest first."""
        return [style.number(value) for value in self.temperatures]

    @property
    def load_labels(self) -> list[str]:
        """Tick labels in the unit of the load's label (densities: percent), increasing."""
        return [self.load.text(value) for value in self.loads]

    def matrix(self, table: pd.DataFrame, column: str, name: str = "grid.csv") -> np.ndarray:
        """`column` of `table` over the plane.

        Returns
        -------
        numpy.ndarray
            Shape (temperatures, loads), object or float; NaN where the table has no such cell.

        Raises
        ------
        UserError
            When a column is missing or a cell has more than one row.
        """
        require(table, ("temperature", self.load.column, column), name)
        if table.duplicated(["temperature", self.load.column]).any():
            raise UserError(f"{name} has more than one row for the same temperature and {self.load.noun}")
        wide = table.pivot(index="temperature", columns=self.load.column, values=column)
        return wide.reindex(index=list(self.temperatures), columns=list(self.loads)).to_numpy()

    def column(self, load: float) -> int:
        """Index of a load (within rounding).

        Raises
        ------
        UserError
            When it is none of the plane's.
        """
        distances = np.abs(np.asarray(self.loads) - load)
        if distances.min() > 1e-9:
            raise UserError(f"{self.load.noun} {load:g} is not in grid.csv ({', '.join(map(str, self.loads))})")
        return int(distances.argmin())
