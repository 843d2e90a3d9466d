"""From ``cells.csv`` to decisions: grid, regimes, boundaries, algorithms, sensitivity. No torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from three_regime.analysis import algorithms, regimes, seed_means
from three_regime.config.thresholds import Thresholds
from three_regime.study.outputs import REGIME_TABLES
from three_regime.system.files import write_csv


def build(cells: pd.DataFrame, thresholds: Thresholds, drawn: pd.DataFrame | None = None) -> dict[str, pd.DataFrame]:
    """Every table of ``REGIME_TABLES`` for the cells of one study.

    Parameters
    ----------
    cells
        See `seed_means.check_cells`.
    drawn
        Regimes drawn by hand, where there are some (the published Figure 2): the sensitivity table then shows
        agreement beside regret, and ``leave_one_out`` the algorithms with thresholds refitted without the density
        that they are applied to (without drawn regimes nothing can be refitted, and it is empty).
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
    """Read ``<folder>/cells.csv`` and write every table beside it; returns the paths."""
    paths = []
    for name, table in build(seed_means.read_cells(folder / "cells.csv"), thresholds, drawn).items():
        paths.append(folder / f"{name}.csv")
        write_csv(paths[-1], table)
    return paths
