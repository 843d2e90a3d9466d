"""Test error and regret against density: temperature tuning and model selection (paper, case studies 1 and 2)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from three_regime.figures import style
from three_regime.figures.cells import require
from three_regime.knobs import Knob

TUNED = ("default temperature", "algorithm 1", "oracle")
"""What `error_against_density` compares; Algorithm 1 starts from the default temperature."""

SELECTED = ("default temperature", "lowest dense error", "algorithm 1", "algorithm 2", "algorithm 2.1")
"""What `selection_comparison` compares with the oracle."""


def tuning_table(grid: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """Chosen temperature and test error of ``TUNED`` at each density, with the 95 % half-width over dense seeds.

    Algorithm 1 is taken from the default temperature, or from the coldest where the default was not run.
    """
    chosen = _from_default(selection)
    table = chosen[chosen["algorithm"].isin(TUNED)]
    spread = grid[["temperature", "density", "test_error_ci95"]]
    return table.merge(spread, on=["temperature", "density"], how="left")[
        ["algorithm", "density", "temperature", "test_error", "test_error_ci95", "regret", "probes"]
    ]


def error_against_density(grid: pd.DataFrame, selection: pd.DataFrame, knob: Knob) -> Figure:
    """Test error against density for the default, the tuned and the best temperature, and the temperature chosen.

    Parameters
    ----------
    grid, selection
        grid.csv and selection.csv of one study.
    knob
        Names the temperature.

    Raises
    ------
    UserError
        When a table lacks a column.
    """
    require(grid, ["temperature", "density", "test_error_ci95"], "grid")
    require(selection, ["algorithm", "start", "density", "temperature", "test_error"], "selection")
    table = tuning_table(grid, selection)
    densities = sorted(set(grid["density"]))
    with style.context():
        figure = style.new_figure(style.COLUMN_WIDTH, 4.2)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        for index, name in enumerate(TUNED):
            part = table[table["algorithm"] == name].set_index("density").reindex(densities)
            # Side by side, so that equal choices do not hide each other.
            places = np.arange(len(densities)) + (index - 1) * 0.12
            look = style.series(index).keywords
            above.errorbar(
                places,
                100 * part["test_error"],
                yerr=100 * part["test_error_ci95"].fillna(0),
                label=name,
                capsize=1.5,
                **look,
            )
            below.plot(places, part["temperature"], **look)
        above.set_ylabel("test error (%)")
        above.legend(loc="upper right")
        below.set_ylabel(f"chosen {knob.label}".replace("chosen dense training", "chosen"))
        for axes in (above, below):
            axes.grid(axis="y")
        style.density_axis(below, densities)
    return figure


def selection_table(selection: pd.DataFrame) -> pd.DataFrame:
    """Regret and probes of ``SELECTED`` at each density."""
    chosen = _from_default(selection)
    return chosen[chosen["algorithm"].isin(SELECTED)][
        ["algorithm", "density", "temperature", "test_error", "regret", "probes"]
    ]


def selection_comparison(selection: pd.DataFrame) -> Figure:
    """Regret to the oracle against density, in percentage points, for each algorithm and baseline.

    Parameters
    ----------
    selection
        selection.csv of one study.
    """
    require(selection, ["algorithm", "start", "density", "temperature", "regret", "probes"], "selection")
    table = selection_table(selection)
    densities = sorted(set(table["density"]))
    with style.context():
        figure = style.new_figure(style.COLUMN_WIDTH, 3.0)
        axes = figure.subplots()
        present = [name for name in SELECTED if (table["algorithm"] == name).any()]
        for index, name in enumerate(present):
            part = table[table["algorithm"] == name].set_index("density").reindex(densities)
            places = np.arange(len(densities)) + (index - (len(present) - 1) / 2) * 0.1
            label = f"{name} (mean {100 * part['regret'].mean():.2f})"
            axes.plot(places, 100 * part["regret"], label=label, **style.series(index).keywords)
        axes.set_ylabel("regret (percentage points)")
        axes.grid(axis="y")
        style.density_axis(axes, densities)
        figure.legend(loc="outside lower center", ncols=1)
    return figure


def _from_default(selection: pd.DataFrame) -> pd.DataFrame:
    """`selection` with Algorithm 1 from one start: the default temperature, or else the coldest (the last) start."""
    walks = selection["algorithm"] == "algorithm 1"
    default = selection.loc[selection["algorithm"] == "default temperature", "temperature"]
    starts = selection.loc[walks, "start"]
    if starts.empty:
        return selection
    start = default.iloc[0] if len(default) and default.iloc[0] in set(starts) else starts.iloc[-1]
    return selection[~walks | (selection["start"] == start)]
