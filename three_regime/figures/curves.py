"""Curves of what was run: the error along the line between two replicas, and training epoch by epoch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from three_regime.config.knobs import Knob
from three_regime.config.loads import DENSITY
from three_regime.errors import UserError
from three_regime.figures import style
from three_regime.figures.cells import require

CHOSEN = 4
"""Most temperatures and densities shown unless asked for, evenly spread over what was run."""

OFTEN = 0.25
"""Share of the epochs; if the learning rate changes in more, verticals at its changes would say nothing."""

FEW_POINTS = 15
"""Fewer evaluated epochs than these are marked on a training curve."""

MEASURES = {
    "train_error": ("training error (fraction)", 1),
    "test_error": ("test error (fraction)", 1),
    "train_nll": ("training NLL (nats)", 1),
    "test_nll": ("test NLL (nats)", 1),
}
"""What can be drawn along a line: column of lines.csv → label and factor. Errors are in the unit of LMC."""

_LINE_LOOKS: dict[str, dict[str, Any]] = {
    "single pairs": {"color": style.SERIES[0].colour, "linewidth": 0.6, "alpha": 0.7},
    "mean": {"color": "black", "linewidth": 1.5},
    "mean of the ends": {"color": "0.3", "linewidth": 0.9, "linestyle": (0, (1, 1.5))},
}
_CURVES = {
    "train_loss": ("training loss (nats)", 1, (1, 2, 5)),
    "test_error": ("test error (%)", 100, (1, 1.5, 2, 3, 4, 5, 6, 8)),
}
"""Column of curves.csv → label, factor, and the ticks of a decade."""


def chosen_lines(
    lines: pd.DataFrame,
    knob: Knob,
    temperatures: Sequence[float] | None = None,
    densities: Sequence[float] | None = None,
) -> pd.DataFrame:
    """The rows of lines.csv that `lmc_lines` draws."""
    rows, columns = _cells(lines, knob, temperatures, densities)
    return lines[_among(lines["temperature"], rows) & _among(lines["density"], columns)].reset_index(drop=True)


def lmc_lines(
    lines: pd.DataFrame,
    knob: Knob,
    temperatures: Sequence[float] | None = None,
    densities: Sequence[float] | None = None,
    measure: str = "train_error",
    title: str = "",
    path: str = "line",
) -> Figure:
    """Error along the line between two replicas, one panel a cell: hot to cold down, densities across.

    Thin lines are single pairs, in one colour for each dense seed (all grey if there are many), the thick one their
    mean within each dense seed, then over dense seeds; the dotted line is the mean of the two ends, from which LMC
    counts. A single pair is its own mean. Panels of one density share their vertical axis.

    Parameters
    ----------
    lines
        lines.csv of one study: errors are fractions, `t` runs from 0 to 1.
    knob
        What sets the temperature.
    temperatures, densities
        The cells to show; by default at most ``CHOSEN`` of each, spread over what `lines` holds.
    measure
        A key of ``MEASURES``.
    title
        Heading; empty for none.
    path
        Name of what `t` runs along: the straight line, or a trained curve (bezier_lines.csv).

    Raises
    ------
    UserError
        When a column is missing or `measure` is unknown.
    """
    if measure not in MEASURES:
        raise UserError(f"unknown measure {measure!r} for LMC lines; choose one of {', '.join(MEASURES)}")
    require(lines, ("dense_seed", "temperature", "density", "pair", "t", measure), "lines.csv")
    rows, columns = _cells(lines, knob, temperatures, densities)
    if not rows or not columns:
        return style.blank_figure("no pair of replicas has been measured", title)
    label, factor = MEASURES[measure]
    seeds = sorted(lines["dense_seed"].unique())
    several = bool((lines.groupby(["temperature", "density", "t"]).size() > 1).any())
    with style.context():
        width = max(style.COLUMN_WIDTH, 0.9 + 1.5 * len(columns))
        said = " and ".join(filter(None, _left_out(lines, rows, columns)))
        height = 0.95 * len(rows) + 1.2 + 0.12 * bool(said) + style.heading_height(title, width)
        figure = style.new_figure(width, height)
        panels = figure.subplots(len(rows), len(columns), sharex=True, sharey="col", squeeze=False)
        for row, temperature in zip(panels, rows, strict=True):
            for axes, density in zip(row, columns, strict=True):
                cell = lines[_among(lines["temperature"], [temperature]) & _among(lines["density"], [density])]
                _draw_line_cell(axes, cell, measure, factor, seeds)
            where = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
            row[-1].annotate(style.number(temperature), (1, 0.5), (6, 0), fontsize=8, **where)
        for axes, density in zip(panels[0], columns, strict=True):
            axes.set_title(f"density {DENSITY.text(density)} %")
        order = f"rows: {knob.label} (number at the right), the hottest on top"
        below = [f"position t on the {path} between two replicas", order, *([f"shown: {said}"] if said else [])]
        figure.supxlabel(style.fitted("\n".join(below), figure.get_figwidth(), 7.5), fontsize=7.5)
        figure.supylabel(label, fontsize=7.5)
        handles = _line_handles(seeds, several)
        # A heading of the figure would be laid over the legend.
        in_a_row = len(handles) if width > 6 else 3
        heading = {"title": style.fitted(title, width, 8) or None, "title_fontsize": 8, "columnspacing": 1.2}
        legend = figure.legend(handles=handles, loc="outside upper center", ncols=in_a_row, **heading)
        legend.get_title().set_multialignment("center")
    return figure


def _left_out(lines: pd.DataFrame, rows: Sequence[float], columns: Sequence[float]) -> tuple[str, str]:
    temperatures = style.omitted(len(rows), lines["temperature"].nunique(), "temperatures")
    return temperatures, style.omitted(len(columns), lines["density"].nunique(), "densities")


def _line_handles(seeds: Sequence[int], several: bool) -> list[Line2D]:
    """Of what can be seen: single pairs in the colour of their dense seed where there are several."""
    pairs, mean, ends = _LINE_LOOKS
    if not several:
        return [Line2D([], [], label="the pair", **_LINE_LOOKS[mean]), Line2D([], [], label=ends, **_LINE_LOOKS[ends])]
    handles = [Line2D([], [], label=mean, **_LINE_LOOKS[mean]), Line2D([], [], label=ends, **_LINE_LOOKS[ends])]
    named = [(f"pairs of seed {seed}", style.of_seed(index, len(seeds)).colour) for index, seed in enumerate(seeds)]
    if len(seeds) > len(style.SEEDS):
        named = [(pairs, style.MANY_SEEDS.colour)]
    return [Line2D([], [], label=name, **_LINE_LOOKS[pairs] | {"color": colour}) for name, colour in named] + handles


def _cells(
    lines: pd.DataFrame, knob: Knob, temperatures: Sequence[float] | None, densities: Sequence[float] | None
) -> tuple[list[float], list[float]]:
    rows = list(temperatures) if temperatures else style.spread(_hot_first(lines["temperature"], knob), CHOSEN)
    columns = sorted(densities) if densities else style.spread(_increasing(lines["density"]), CHOSEN)
    return knob.hot_first(rows), columns


def _draw_line_cell(axes: Axes, cell: pd.DataFrame, measure: str, factor: float, seeds: list[int]) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], min_n_ticks=3, prune="upper"))
    axes.grid(axis="y")
    if not cell[measure].notna().any():
        axes.text(0.5, 0.5, "not run", ha="center", va="center", transform=axes.transAxes, color="0.4")
        return
    thin, thick, dotted = _LINE_LOOKS.values()
    pairs = list(cell.sort_values("t").groupby(["dense_seed", "pair"]))
    for (seed, _), pair in pairs if len(pairs) > 1 else ():
        colour = style.of_seed(seeds.index(seed), len(seeds)).colour
        axes.plot(pair["t"], factor * pair[measure], **thin | {"color": colour})
    mean = factor * cell.groupby(["dense_seed", "t"])[measure].mean().groupby("t").mean()
    axes.plot(mean.index, mean, **thick)
    axes.axhline((mean.iloc[0] + mean.iloc[-1]) / 2, **dotted)


def training_curves(
    curves: pd.DataFrame, knob: Knob, temperatures: Sequence[float] | None = None, title: str = ""
) -> Figure:
    """Training loss and test error by epoch: dense training (left), then retraining from some temperatures.

    Lines are means over replicas within each dense seed, then over dense seeds, bands the range of all. Lines of dense
    training are temperatures (of the early-stop points of one run the longest is drawn), those of retraining are
    densities. Grey verticals mark changes of the learning rate; there are none if it changes all the time.

    Parameters
    ----------
    curves
        curves.csv of one study: losses in nats, errors as fractions.
    knob
        What sets the temperature.
    temperatures
        Those whose retraining is shown; by default the hottest, the middle and the coldest that were run.
    title
        Heading; empty for none.

    Raises
    ------
    UserError
        When a column is missing.
    """
    needed = ("stage", "dense_seed", "temperature", "density", "replica", "epoch", *_CURVES)
    require(curves, needed, "curves.csv")
    if curves.empty:
        return style.blank_figure("nothing has been trained", title)
    dense, retrained = curves[curves["stage"] == "dense"], curves[curves["stage"] == "retrain"]
    order = _hot_first(dense["temperature"], knob)
    trained = order[-1:] if knob.setting is None else style.spread(order, CHOSEN)
    shown = list(temperatures or style.spread(_hot_first(retrained["temperature"], knob), 3))
    densities = style.spread(_increasing(retrained["density"]), CHOSEN)
    with style.context():
        width = max(style.COLUMN_WIDTH, 1.75 * (1 + len(shown)))
        said = " and ".join(filter(None, _left_out(retrained, shown, densities)))
        figure = style.new_figure(width, 3.8 + 0.12 * bool(said) + style.heading_height(title, width))
        panels = figure.subplots(2, 1 + len(shown), sharex="col", sharey="row", squeeze=False)
        parts = [dense[_among(dense["temperature"], [temperature])] for temperature in trained]
        cells = [retrained[_among(retrained["temperature"], [temperature])] for temperature in shown]
        families = [[cell[_among(cell["density"], [density])] for density in densities] for cell in cells]
        _scale(panels, [*parts, *itertools.chain(*families)])
        # One dense line is no density: it must not look like one.
        looks = [("0.45", "solid")] if len(parts) == 1 else _looks(len(parts))
        _draw_family(panels[:, 0], parts, [style.number(temperature) for temperature in trained], looks)
        panels[0, 0].set_title("dense training", fontsize=7.5)
        if len(trained) > 1:
            panels[0, 0].legend(title=knob.label, title_fontsize=7, labelspacing=0.2)
        kept = [f"{DENSITY.text(density)} %" for density in densities]
        for column, temperature, family in zip(panels.T[1:], shown, families, strict=True):
            _draw_family(column, family, kept, _looks(len(family)))
            column[0].set_title(f"retraining from\n{knob.label}: {style.number(temperature)}", fontsize=7.5)
        for row, (label, _, _) in zip(panels, _CURVES.values(), strict=True):
            row[0].set_ylabel(label)
        for axes in panels[1]:
            axes.set_xlabel("epoch")
        if shown:
            handles, labels = panels[1, 1].get_legend_handles_labels()
            labels = [f"density {label}" for label in labels]
            note = {"title": f"retraining shown: {said}" if said else None, "title_fontsize": 7}
            figure.legend(handles, labels, loc="outside lower center", ncols=CHOSEN, **note)
        style.heading(figure, title)
    return figure


Look = tuple[Any, Any]
"""Colour and dash of a line."""


def _looks(count: int) -> list[Look]:
    """Of as many lines, from dark to light."""
    return list(zip(style.shades(count), itertools.cycle(style.DASHES), strict=False))


def _scale(panels: np.ndarray, parts: Sequence[pd.DataFrame]) -> None:
    """Make each row of panels logarithmic, unless nothing in it is above 0, as where every answer is right."""
    for row, measure in zip(panels, _CURVES, strict=True):
        row[0].set_yscale("log" if any((part[measure] > 0).any() for part in parts) else "linear")


def _draw_family(panels: Sequence[Axes], parts: list[pd.DataFrame], labels: list[str], looks: list[Look]) -> None:
    """One column of panels: a line for each table of `parts`."""
    for axes, (measure, (_, factor, ticks)) in zip(panels, _CURVES.items(), strict=True):
        for part, label, (colour, dash) in zip(parts, labels, looks, strict=True):
            known = part.dropna(subset=[measure])
            of_seeds = known.groupby(["dense_seed", "epoch"])[measure].mean()
            mean = factor * of_seeds.groupby("epoch").mean()
            low, high = (factor * known.groupby("epoch")[measure].agg(end) for end in ("min", "max"))
            axes.fill_between(mean.index, low, high, color=colour, alpha=0.18, linewidth=0)
            # Dots say where it was evaluated, which need not be every epoch.
            marker = "." if len(mean) < FEW_POINTS else ""
            look = {"color": colour, "linestyle": dash, "linewidth": 1.0, "marker": marker, "markersize": 2.5}
            axes.plot(mean.index, mean, label=label, **look)
        for epoch in sorted({epoch for part in parts for epoch in _rate_changes(part)}):
            axes.axvline(epoch, color="0.8", linewidth=0.6, zorder=0)
        low, high = axes.get_ylim()
        if axes.get_yscale() == "log":
            axes.yaxis.set_major_locator(LogLocator(subs=ticks if high < 12 * low else (1, 2, 5), numticks=20))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _rate_changes(curve: pd.DataFrame) -> list[float]:
    """Places between two epochs with different learning rates; none if they are `OFTEN`."""
    if "learning_rate" not in curve:
        return []
    rate = curve.groupby("epoch")["learning_rate"].first().dropna()
    changed = ~np.isclose(rate.to_numpy()[1:], rate.to_numpy()[:-1])
    if changed.sum() > OFTEN * len(rate):
        return []
    return [float(epoch) - 0.5 for epoch in rate.index[1:][changed]]


def _among(values: pd.Series, wanted: Sequence[float]) -> pd.Series:
    return values.astype(float).round(9).isin([round(float(value), 9) for value in wanted])


def _hot_first(values: pd.Series, knob: Knob) -> list[float]:
    return knob.hot_first([float(value) for value in values.dropna().unique()])


def _increasing(values: pd.Series) -> list[float]:
    return sorted(float(value) for value in values.dropna().unique())
