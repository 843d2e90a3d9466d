"""Build the tables derived from ``cells.csv``: grid, regimes, boundaries, algorithms, sensitivity."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from three_regime.analysis import algorithms, regimes, seed_means
from three_regime.config.thresholds import Thresholds
from three_regime.study.outputs import REGIME_TABLES
from three_regime.system.files import write_csv


def build(cells: pd.DataFrame, thresholds: Thresholds, drawn: pd.DataFrame | None = None) -> dict[str, pd.DataFrame]:
    """Build every table of ``REGIME_TABLES`` from the cells of one study.

    Parameters
    ----------
    cells
        Rows of ``cells.csv`` (`seed_means.check_cells`).
    drawn
        Regimes drawn by hand, if any (published Figure 2). With them the sensitivity table shows agreement beside
        regret, and ``leave_one_out`` evaluates the algorithms with a threshold fitted without the density they are
        applied to; without them that table is empty.
    """
    grid = seed_means.grid(cells)
    choices = algorithms.evaluate(grid, thresholds)
    tables = {
        "grid": grid,
        "regimes": regimes.label(grid, thresholds),
        "boundaries": regimes.boundaries(grid, thresholds),
        "selection": choices,
        "selection_summary": algorithms.summary(choices),
        "sensitivity": algorithms.sensitivity(grid, drawn),
        "leave_one_out": choices.iloc[:0]
        if drawn is None
        else algorithms.leave_one_density_out(grid, drawn, thresholds),
    }
    return {name: tables[name] for name in REGIME_TABLES}


def write(folder: Path, thresholds: Thresholds, drawn: pd.DataFrame | None = None) -> list[Path]:
    """Read ``<folder>/cells.csv``, write every table beside it, and return their paths."""
    paths = []
    for name, table in build(seed_means.read_cells(folder / "cells.csv"), thresholds, drawn).items():
        paths.append(folder / f"{name}.csv")
        write_csv(paths[-1], table)
    return paths
