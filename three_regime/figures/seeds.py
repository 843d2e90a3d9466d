"""Single dense seeds beside their mean: what the colours of a phase diagram cannot show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from three_regime.config.knobs import Knob
from three_regime.config.measures import measured_columns
from three_regime.figures import style
from three_regime.figures.cells import Plane, require
from three_regime.figures.panels import panel_of

MEASURES = ("test_error", "lmc", "lmc_middle", "cka_softmax")
"""Columns of cells.csv that are shown, a row each, under their labels in `PANELS`; additional measures follow."""

CHOSEN = 4
"""Most densities shown unless asked for, evenly spread over what was run."""

_NAMED = 5
"""Most dense seeds that have a marker of their own in the legend."""


def seed_table(
    grid: pd.DataFrame, cells: pd.DataFrame, knob: Knob, loads: Sequence[float] | None = None
) -> pd.DataFrame:
    """What `seed_points` draws, a row a measure, density (or other load), temperature and dense seed.

    Returns
    -------
    DataFrame
        ``measure``, ``density``, ``temperature``, ``dense_seed``, ``value``, and of its row of the grid ``mean``,
        ``se`` (pooled within the density) and ``one_seed`` (the dense seed that dominates the spread); errors and LMC
        are fractions.

    Raises
    ------
    UserError
        When a table lacks a column.
    """
    plane = Plane.of(grid, knob)
    load = plane.load.column
    require(cells, ("dense_seed", "temperature", load), "cells.csv")
    shown = sorted(loads) if loads else style.spread(list(plane.loads), CHOSEN)
    keys = [load, "temperature"]
    tables = []
    for measure in [name for name in (*MEASURES, *measured_columns()) if name in cells and name in grid]:
        of_grid = {measure: "mean", f"{measure}_se": "se", f"{measure}_one_seed": "one_seed"}
        means = grid.reindex(columns=[*keys, *of_grid]).rename(columns=of_grid)
        values = cells[[*keys, "dense_seed", measure]].rename(columns={measure: "value"}).dropna()
        values[load] = values[load].round(6)
        tables.append(values.merge(means, on=keys, how="left").assign(measure=measure))
    columns = ["measure", *keys, "dense_seed", "value", "mean", "se", "one_seed"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return table[table[load].isin(shown)][columns].reset_index(drop=True)


def seed_points(
    grid: pd.DataFrame,
    cells: pd.DataFrame,
    knob: Knob,
    loads: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Every dense seed's value against temperature, beside the mean and its standard error; one column a load.

    Thin lines join the values of a seed. Each panel has its own vertical axis, for spreads differ between densities by
    factors of tens. A ring marks a seed that dominates the spread of its cell: the mean there is that seed's. One dense
    seed has no mean beside it. A measure that is the same everywhere is left out; that, and densities that are not
    shown, a line says.

    Parameters
    ----------
    grid, cells
        grid.csv and cells.csv of one study; errors and LMC are fractions.
    knob
        What sets the temperature.
    loads
        Values of the load to show; by default at most ``CHOSEN``, spread over what was run.
    title
        Heading; empty for none.

    Raises
    ------
    UserError
        When a table lacks a column.
    """
    table = seed_table(grid, cells, knob, loads)
    if table.empty:
        return style.blank_figure("no cell has been measured", title)
    plane = Plane.of(grid, knob)
    load = plane.load
    there = {name: table.loc[table["measure"] == name, "value"] for name in (*MEASURES, *measured_columns())}
    same = [name for name, values in there.items() if len(values) > 1 and np.ptp(values) < 1e-12]
    measures = [name for name, values in there.items() if len(values) and name not in same]
    said = [
        f"{panel_of(name).name}: {style.number(panel_of(name).factor * there[name].iloc[0])} everywhere"
        for name in same
    ]
    if not measures:
        return style.blank_figure("\n".join(said), title)
    columns = sorted(table[load.column].unique())
    said += filter(None, [style.omitted(len(columns), len(plane.loads), f"{load.plural} are shown")])
    seeds = sorted(int(seed) for seed in table["dense_seed"].unique())
    with style.context():
        handles = _legend(table, seeds)
        width = max(style.COLUMN_WIDTH, 0.7 + 1.55 * len(columns))
        in_a_row = len(handles) if width > 5 else 3
        height = 0.14 * -(-len(handles) // in_a_row) + 1.15 * len(measures) + 0.6 + 0.12 * len(said)
        figure = style.new_figure(width, height + style.heading_height(title, width))
        panels = figure.subplots(len(measures), len(columns), sharex=True, squeeze=False)
        for row, measure in zip(panels, measures, strict=True):
            for axes, value in zip(row, columns, strict=True):
                cell = table[(table["measure"] == measure) & (table[load.column] == value)]
                _draw(axes, cell, plane, seeds, panel_of(measure).factor)
            row[0].set_ylabel(panel_of(measure).label)
        figure.align_ylabels(panels[:, 0])
        for axes, value in zip(panels[0], columns, strict=True):
            axes.set_title(f"{load.noun} {load.text(value)}{load.unit}")
        for axes in panels[-1]:
            kept = style.tick_places(plane.temperature_labels, 1.1)
            axes.set_xticks(kept, [plane.temperature_labels[place] for place in kept])
            axes.set_xlim(-0.5, len(plane.temperatures) - 0.5)
        figure.supxlabel("\n".join([f"hot ← {knob.label} → cold", *said]), fontsize=7.5)
        # A heading of the figure would be laid over the legend.
        heading = {"title": style.fitted(title, width, 8) or None, "title_fontsize": 8}
        legend = figure.legend(
            handles=handles, loc="outside upper center", ncols=in_a_row, columnspacing=1.2, handlelength=1.6, **heading
        )
        legend.get_title().set_multialignment("center")
    return figure


def _draw(axes: Axes, cell: pd.DataFrame, plane: Plane, seeds: list[int], factor: float) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], prune="upper"))
    axes.grid(axis="y")
    axes.margins(y=0.12)
    places = {temperature: place for place, temperature in enumerate(plane.temperatures)}
    means = cell.drop_duplicates("temperature").assign(place=lambda table: table["temperature"].map(places))
    means = means.sort_values("place")
    if len(seeds) > 1:
        # Many points would hide the mean; of few, each is to be seen.
        order = 2.1 if len(seeds) <= _NAMED else 3.0
        axes.errorbar(means["place"], factor * means["mean"], yerr=factor * means["se"], zorder=order, **_MEAN)
    for index, seed in enumerate(seeds):
        own = cell[cell["dense_seed"] == seed].sort_values("temperature", key=lambda values: values.map(places))
        x = own["temperature"].map(places)
        look = _look(index, len(seeds))
        # Claims take differences within a dense seed: the slopes show them.
        axes.plot(x, factor * own["value"], color=look["color"], gid="joined", **_JOINED)
        axes.plot(x, factor * own["value"], **look)
        ringed = (own["one_seed"] == seed).to_numpy()
        axes.plot(x[ringed], factor * own["value"][ringed], gid="one-seed", **_RING)


_MEAN = {"color": "0.25", "linewidth": 1.0, "marker": "_", "markersize": 7, "capsize": 2, "elinewidth": 0.8}
_JOINED = {"linewidth": 0.5, "alpha": 0.45, "zorder": 2.2}
_RING = {
    "linestyle": "",
    "marker": "o",
    "markersize": 7,
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 0.9,
}


def _look(index: int, count: int) -> dict[str, object]:
    """A marker and colour for each seed, as long as there are few."""
    look = style.of_seed(index, count) if count <= _NAMED else style.SERIES[0]
    # Later ones are smaller, so that equal values do not hide each other.
    size = 4.4 - 0.45 * index if count <= _NAMED else 3.0
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.3, "zorder": 2.5 + 0.01 * index}
    return {"linestyle": "", "marker": look.marker, "color": look.colour, "markersize": size, **edge}


def _legend(table: pd.DataFrame, seeds: list[int]) -> list[Line2D]:
    """Of what occurs in `table`: one dense seed has no standard error."""
    mean = "mean ± standard error" if table["se"].notna().any() else "mean"
    handles = [Line2D([], [], label=mean, **_line())] if len(seeds) > 1 else []
    if len(seeds) <= _NAMED:
        handles += [Line2D([], [], label=f"seed {seed}", **_look(i, len(seeds))) for i, seed in enumerate(seeds)]
    else:
        handles.append(Line2D([], [], label="seeds", **_look(0, len(seeds))))
    if table["one_seed"].notna().any():
        handles.append(Line2D([], [], label="dominates the spread", **_RING))
    return handles


def _line() -> dict[str, object]:
    return {key: value for key, value in _MEAN.items() if key not in ("capsize", "elinewidth")}
