"""Curves of what was run: training epoch by epoch, and the error along the line between two replicas."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from three_regime.figures import style
from three_regime.figures.cells import require
from three_regime.knobs import Knob

CHOSEN = 3
"""Rows and columns of the small multiples: temperatures and densities, evenly spread over the grid."""


def training_curves(curves: pd.DataFrame, knob: Knob) -> Figure:
    """Test error (and running training error of the dense run) against epoch: dense above, retraining below.

    Parameters
    ----------
    curves
        curves.csv of one study. Of the early-stop checkpoints of one run the longest is drawn.
    knob
        Names the temperature.

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    require(curves, ["stage", "dense_seed", "temperature", "density", "replica", "epoch", "train_error"], "curves")
    dense = curves[curves["stage"] == "dense"]
    retrained = curves[curves["stage"] == "retrain"]
    order = knob.hot_first(sorted(set(curves["temperature"])))
    shown = style.spread(order, CHOSEN)
    densities = style.spread(sorted(set(retrained["density"].dropna())), 4)
    with style.context():
        figure = style.new_figure(style.TEXT_WIDTH, 3.9)
        grid = figure.add_gridspec(2, len(shown))
        above = figure.add_subplot(grid[0, :])
        _dense(above, dense, knob, shown)
        first: Axes | None = None
        for place, temperature in enumerate(shown):
            axes = figure.add_subplot(grid[1, place], sharey=first)
            first = first or axes
            for index, (density, colour) in enumerate(zip(densities, style.shades(len(densities)), strict=True)):
                here = (retrained["temperature"] == temperature) & (retrained["density"] == density)
                mean = retrained[here].groupby("epoch")["test_error"].mean().dropna()
                dash = style.DASHES[index % len(style.DASHES)]
                axes.plot(mean.index, 100 * mean, color=colour, linestyle=dash, label=f"{style.percent(density)} %")
            axes.set_title(f"retraining, {knob.name.replace('_', ' ')} {style.number(temperature)}")
            axes.set_xlabel("retraining epoch")
            axes.grid(axis="y")
            if place == 0:
                axes.set_ylabel("test error (%)")
                axes.legend(title="density", title_fontsize=7)
    return figure


def _dense(axes: Axes, dense: pd.DataFrame, knob: Knob, shown: list[float]) -> None:
    """Dense runs, mean over dense seeds: one for the epochs knob, one a temperature otherwise."""
    temperatures = [max(dense["temperature"])] if knob.setting is None and len(dense) else shown
    for index, temperature in enumerate(temperatures):
        mean = dense[dense["temperature"] == temperature].groupby("epoch")[["train_error", "test_error"]].mean()
        look = style.series(index)
        name = "" if knob.setting is None else f", {knob.name.replace('_', ' ')} {style.number(temperature)}"
        test = mean["test_error"].dropna()
        axes.plot(test.index, 100 * test, color=look.colour, linestyle="-", label=f"test{name}")
        axes.plot(mean.index, 100 * mean["train_error"], color=look.colour, linestyle=(0, (1, 1)), label=f"train{name}")
    axes.set_title("dense training")
    axes.set_xlabel("epoch")
    axes.set_ylabel("error (%)")
    axes.grid(axis="y")
    axes.legend(ncols=max(1, len(temperatures)))


def chosen_lines(lines: pd.DataFrame, knob: Knob) -> pd.DataFrame:
    """The rows of lines.csv that `lmc_lines` draws: the first dense seed, temperatures and densities spread evenly."""
    temperatures = style.spread(knob.hot_first(sorted(set(lines["temperature"]))), CHOSEN)
    densities = style.spread(sorted(set(lines["density"])), CHOSEN)
    here = lines["temperature"].isin(temperatures) & lines["density"].isin(densities)
    return lines[here & (lines["dense_seed"] == lines["dense_seed"].min())]


def lmc_lines(lines: pd.DataFrame, knob: Knob) -> Figure:
    """Training error along the line between two replicas: temperatures in rows (hot above), densities in columns.

    Parameters
    ----------
    lines
        lines.csv of one study, or part of it.
    knob
        Names the temperature.

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    require(lines, ["dense_seed", "temperature", "density", "pair", "t", "train_error", "test_error"], "lines")
    lines = chosen_lines(lines, knob)
    temperatures = knob.hot_first(sorted(set(lines["temperature"])))
    densities = sorted(set(lines["density"]))
    train, test = style.series(0), style.series(1)
    with style.context():
        figure = style.new_figure(style.TEXT_WIDTH, 0.8 + 1.35 * max(1, len(temperatures)))
        panels = figure.subplots(len(temperatures), len(densities), sharex=True, squeeze=False)
        for row, temperature in zip(panels, temperatures, strict=True):
            for axes, density in zip(row, densities, strict=True):
                cell = lines[(lines["temperature"] == temperature) & (lines["density"] == density)]
                for _, pair in cell.groupby("pair"):
                    axes.plot(pair["t"], 100 * pair["train_error"], color=train.colour, linewidth=0.5)
                mean = cell.groupby("t")[["train_error", "test_error"]].mean()
                axes.plot(mean.index, 100 * mean["train_error"], color=train.colour, linestyle="-")
                axes.plot(mean.index, 100 * mean["test_error"], color=test.colour, linestyle=test.dash)
                axes.grid(axis="y")
                axes.margins(y=0.15)
                if axes in panels[0]:
                    axes.set_title(f"density {style.percent(density)} %")
                if axes in panels[-1]:
                    axes.set_xlabel("position on the line, t")
            row[0].set_ylabel(f"{knob.name.replace('_', ' ')} {style.number(temperature)}\nerror (%)")
        handles = [
            Line2D([], [], color=train.colour, linestyle="-", label="training error, mean over pairs"),
            Line2D([], [], color=train.colour, linewidth=0.5, label="each pair"),
            Line2D([], [], color=test.colour, linestyle=test.dash, label="test error, mean"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
