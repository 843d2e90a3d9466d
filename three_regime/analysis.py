"""From ``cells.csv`` to decisions: grid, regimes, boundaries, algorithms, sensitivity. No torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from three_regime import regimes, selection, statistics
from three_regime.stages import REGIME_TABLES
from three_regime.storage import write_csv
from three_regime.thresholds import Thresholds


def build(cells: pd.DataFrame, thresholds: Thresholds, drawn: pd.DataFrame | None = None) -> dict[str, pd.DataFrame]:
    """Every table of ``REGIME_TABLES`` for the cells of one study.

    Parameters
    ----------
    cells
        See `statistics.check_cells`.
    drawn
        Regimes drawn by hand, where there are some (the published Figure 2): the sensitivity table then shows
        agreement beside regret, and ``leave_one_out`` the algorithms with thresholds refitted without the density
        that they are applied to (without drawn regimes nothing can be refitted, and it is empty).
    """
    grid = statistics.grid(cells)
    choices = selection.evaluate(grid, thresholds)
    tables = {
        "grid": grid,
        "regimes": regimes.label(grid, thresholds),
        "boundaries": regimes.boundaries(grid, thresholds),
        "selection": choices,
        "selection_summary": selection.summary(choices),
        "sensitivity": selection.sensitivity(grid, drawn),
        "leave_one_out": choices.iloc[:0]
        if drawn is None
        else selection.leave_one_density_out(grid, drawn, thresholds),
    }
    return {name: tables[name] for name in REGIME_TABLES}


def write(folder: Path, thresholds: Thresholds, drawn: pd.DataFrame | None = None) -> list[Path]:
    """Read ``<folder>/cells.csv`` and write every table beside it; returns the paths."""
    paths = []
    for name, table in build(statistics.read_cells(folder / "cells.csv"), thresholds, drawn).items():
        paths.append(folder / f"{name}.csv")
        write_csv(paths[-1], table)
    return paths
