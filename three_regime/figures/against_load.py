"""Test error and regret against density or another load: temperature tuning and model selection (paper, case studies
1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from three_regime.config.knobs import Knob
from three_regime.config.loads import Load, load_of
from three_regime.errors import UserError
from three_regime.figures import style
from three_regime.figures.cells import Plane, require

TUNED = ("default temperature", "algorithm 1", "oracle")
"""What `error_against_load` compares."""

LOOKS: dict[str, style.Series] = {
    "default temperature": style.SERIES[3],
    "lowest dense error": style.SERIES[5],
    "algorithm 1": style.SERIES[0],
    "algorithm 2": style.SERIES[4],
    "algorithm 2.1": style.SERIES[1],
    "oracle": style.SERIES[2],
}
"""Algorithms of selection.csv in the order of the legend; one has the same look in every figure."""

_COLUMNS = ("algorithm", "start", "temperature", "test_error", "regret", "probes")


def tuning_table(
    grid: pd.DataFrame,
    selection: pd.DataFrame,
    knob: Knob,
    start: float | None = None,
    cells: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Chosen temperature and test error of ``TUNED`` at each density, with the 95 % half-width over dense seeds.

    Parameters
    ----------
    grid, selection, knob, start, cells
        As for `error_against_load`.

    Returns
    -------
    DataFrame
        ``algorithm``, ``start``, ``density``, ``temperature``, ``test_error``, ``test_error_ci95``, ``regret``
        (fractions), ``probes``; where `cells` hold several dense seeds, for each seed s ``test_error_seed<s>`` and
        ``regret_seed<s>``, the difference to the same seed's error at the oracle's temperature.

    Raises
    ------
    UserError
        When a table lacks a column or Algorithm 1 was not run from `start`.
    """
    load = load_of(grid).column
    names = [*_COLUMNS[:2], load, *_COLUMNS[2:]]
    keys = ["temperature", load]
    require(selection, names, "selection.csv")
    require(grid, [*keys, "test_error_ci95"], "grid.csv")
    walks = selection[selection["algorithm"] == "algorithm 1"]
    if start is None and len(walks):
        start = _usual_start(selection, walks, knob)
    if start is not None and start not in set(walks["start"]):
        raise UserError(f"selection.csv has no run of algorithm 1 from the start {start:g}")
    others = selection[selection["algorithm"].isin(TUNED) & (selection["algorithm"] != "algorithm 1")]
    table = pd.concat([others, walks[walks["start"] == start]])[names]
    table = table.merge(grid[[*keys, "test_error_ci95"]], on=keys, how="left")
    table.insert(5, "test_error_ci95", table.pop("test_error_ci95"))
    if cells is not None:
        table = _with_seeds(table, cells, load)
    return table.sort_values(["algorithm", load], ignore_index=True)


def _with_seeds(table: pd.DataFrame, cells: pd.DataFrame, load: str) -> pd.DataFrame:
    """The columns of single dense seeds, see `tuning_table`."""
    keys = ["temperature", load]
    require(cells, ("dense_seed", *keys, "test_error"), "cells.csv")
    by_seed = cells.assign(**{load: cells[load].round(6)}).pivot(index=keys, columns="dense_seed", values="test_error")
    if by_seed.shape[1] < 2:
        return table
    oracle = table[table["algorithm"] == "oracle"].set_index(load)["temperature"]
    chosen = by_seed.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy(float)
    best = pd.MultiIndex.from_arrays([table[load].map(oracle), table[load]])
    regret = chosen - by_seed.reindex(best).to_numpy(float)
    names = [f"{seed:g}" for seed in by_seed.columns]
    found = dict(zip([f"test_error_seed{name}" for name in names], chosen.T, strict=True))
    found |= dict(zip([f"regret_seed{name}" for name in names], regret.T, strict=True))
    return table.assign(**found)


def _usual_start(selection: pd.DataFrame, walks: pd.DataFrame, knob: Knob) -> float:
    """The default temperature where Algorithm 1 started there too, else the coldest start."""
    starts = [float(value) for value in walks["start"].unique()]
    default = selection.loc[selection["algorithm"] == "default temperature", "temperature"].unique()
    return float(default[0]) if len(default) == 1 and default[0] in starts else knob.hot_first(starts)[-1]


def error_against_load(
    grid: pd.DataFrame,
    selection: pd.DataFrame,
    knob: Knob,
    start: float | None = None,
    title: str = "",
    cells: pd.DataFrame | None = None,
) -> Figure:
    """Test error of the default, the tuned (Algorithm 1) and the oracle temperature at each density.

    Left: test error, with 95 % intervals where there are several dense seeds. Middle: how far above that of the best
    temperature (the oracle), paired by dense seed. Right: the temperature chosen, the hottest on top. Points are single
    dense seeds. Those that choose alike at every density are one curve with all their names. The middle is left out
    where all choose like the oracle, the right where one temperature is chosen everywhere; a line says so.

    Parameters
    ----------
    grid, selection
        grid.csv and selection.csv of one study; errors are fractions.
    knob
        What sets the temperature.
    start
        Where Algorithm 1 starts: the default temperature, or the coldest start where the default was not run.
    title
        Heading; empty for none.
    cells
        cells.csv, for the points; none without.

    Raises
    ------
    UserError
        When a table lacks a column or Algorithm 1 was not run from `start`.
    """
    table = tuning_table(grid, selection, knob, start, cells)
    plane = Plane.of(grid, knob)
    if table["test_error"].isna().all():
        return style.blank_figure("no cell has been retrained", title)
    names = [name for name in TUNED if name in set(table["algorithm"])]
    parts = {name: table[table["algorithm"] == name].set_index(plane.load.column) for name in names}
    groups = style.alike({name: part["temperature"].reindex(plane.loads) for name, part in parts.items()})
    shown, said = _informative_panels(table, knob, plane.load)
    if table["test_error_ci95"].notna().any():
        said.append("bars: 95 % intervals")
    with style.context():
        width = max(style.COLUMN_WIDTH, 0.4 + 2.2 * len(shown))
        height = (
            2.35 + 0.14 * (len(shown) > 1) + 0.13 * len(names) + 0.12 * len(said) + style.heading_height(title, width)
        )
        figure = style.new_figure(width, height)
        panels = dict(zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True))
        for index, group in enumerate(groups):
            label = "\n= ".join(_started(parts[name]) for name in group)
            look = LOOKS[group[0]].keywords | style.nested(index, len(groups))
            _draw_choice(panels, plane, parts[group[0]], label, look)
        # Two dense seeds give intervals far wider than any error can be.
        low, high = panels["test error"].get_ylim()
        panels["test error"].set_ylim(max(0, low), min(100, high))
        for letter, (name, axes) in zip("abc", panels.items(), strict=False):
            style.load_axis(axes, plane.load, plane.loads, 1.7)
            axes.set_title(style.fitted(f"({letter}) {name}", _TITLE_WIDTH, 8), loc="left")
            axes.set_ylabel({"test error": "test error (%)", _EXCESS: "percentage points"}.get(name, knob.label))
            axes.grid(axis="y")
        if _CHOSEN in panels:
            places = style.tick_places(plane.temperature_labels, 1.5, upright=True)
            panels[_CHOSEN].set_yticks(places, [plane.temperature_labels[place] for place in places])
            panels[_CHOSEN].set_ylim(len(plane.temperatures) - 0.5, -0.5)
        handles, labels = panels["test error"].get_legend_handles_labels()
        if any(name.startswith("regret_seed") for name in table):
            handles.append(Line2D([], [], color="0.3", **_SEEDS))
            labels.append("dense seeds")
        note = {"title": "\n".join(said) or None, "title_fontsize": 7}
        figure.legend(handles, labels, loc="outside lower center", ncols=3 if len(shown) > 1 else 1, **note)
        style.heading(figure, title)
    return figure


_TITLE_WIDTH = 1.8
"""Inches for the title of a panel, beside which stands the next."""

_EXCESS, _CHOSEN = "excess over the best temperature", "chosen temperature (hottest at top)"


def _informative_panels(table: pd.DataFrame, knob: Knob, load: Load) -> tuple[list[str], list[str]]:
    """Panels that say something, and a sentence for each of the others."""
    shown, said = ["test error"], []
    if (table.filter(regex="^regret").fillna(0).abs() > 1e-12).any(axis=None):
        shown.append(_EXCESS)
    else:
        where = " where its choice was run" if table["regret"].isna().any() else ""
        said.append(f"every choice is the best at every {load.noun}{where}")
    chosen = table["temperature"].dropna().unique()
    if len(chosen) > 1:
        shown.append(_CHOSEN)
    else:
        said += [f"chosen at every {load.noun}: {style.number(value)} ({knob.label})" for value in chosen]
    return shown, said


_SEEDS = {"linestyle": "", "marker": "o", "markersize": 2.2, "markerfacecolor": "none", "markeredgewidth": 0.5}
"""How single dense seeds look."""


def _draw_choice(
    panels: Mapping[str, Axes], plane: Plane, rows: pd.DataFrame, label: str, look: Mapping[str, Any]
) -> None:
    x = np.array([plane.column(value) for value in rows.index])
    # Without an interval the legend must show no bar.
    known = rows["test_error_ci95"].notna().any()
    bars = {"yerr": 100 * rows["test_error_ci95"], "capsize": 1.5, "elinewidth": 0.8} if known else {}
    panels["test error"].errorbar(x, 100 * rows["test_error"], label=label, **bars, **look)
    if _EXCESS in panels:
        panels[_EXCESS].plot(x, 100 * rows["regret"], **look)
    for panel, kind in (("test error", "test_error_seed"), (_EXCESS, "regret_seed")):
        for name in [name for name in rows if name.startswith(kind) and panel in panels]:
            panels[panel].plot(x, 100 * rows[name], color=look["color"], zorder=2.9, **_SEEDS)
    if _CHOSEN in panels:
        panels[_CHOSEN].plot(x, [_row(plane, value) for value in rows["temperature"]], **look)


def _started(rows: pd.DataFrame) -> str:
    """Name of an algorithm, with where it started."""
    start = rows["start"].iloc[0]
    return _label(rows["algorithm"].iloc[0]) + ("" if pd.isna(start) else f" (started at {style.number(start)})")


def _row(plane: Plane, temperature: float) -> float:
    """Row of a temperature, NaN where none was chosen."""
    rows = np.flatnonzero(np.isclose(plane.temperatures, temperature))
    return float(rows[0]) if len(rows) else np.nan


def selection_table(selection: pd.DataFrame) -> pd.DataFrame:
    """Regret of each algorithm at each density over its starts.

    Returns
    -------
    DataFrame
        ``algorithm``, ``density``, ``mean``, ``lowest`` and ``highest`` regret (fractions), mean ``probes``, number
        of ``starts`` (1 for an algorithm that needs none).

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    load = load_of(selection).column
    require(selection, (*_COLUMNS, load), "selection.csv")
    groups = selection.dropna(subset=["regret"]).groupby(["algorithm", load], as_index=False)
    return groups.agg(
        mean=("regret", "mean"),
        lowest=("regret", "min"),
        highest=("regret", "max"),
        probes=("probes", "mean"),
        starts=("regret", "size"),
    )


def selection_comparison(selection: pd.DataFrame, title: str = "") -> Figure:
    """Regret of every algorithm and baseline: at each density, and over all of them with the probes that it cost.

    Algorithm 1 is shown as the mean over its starts, with their range as a band; curves that are equal at every density
    are one, with all their names. The right panel gives the mean over densities and starts (filled), the worst of them
    (open), and the mean number of probes; where a choice was not run, the number of densities that are left.

    Parameters
    ----------
    selection
        selection.csv of one study; regret is a fraction.
    title
        Heading; empty for none.

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    table = selection_table(selection)
    table = table[table["algorithm"] != "oracle"]
    if table.empty:
        return style.blank_figure("no algorithm has a retrained cell to choose", title)
    load = load_of(table)
    values = sorted(table[load.column].unique())
    held = set(table["algorithm"])
    if (table["highest"].abs() < 1e-12).all():
        said = f"every algorithm and baseline chooses the best temperature at every {load.noun}"
        return style.blank_figure(said, title)
    names = [name for name in LOOKS if name in held] + sorted(held - set(LOOKS))
    parts = {name: table[table["algorithm"] == name].set_index(load.column).reindex(values) for name in names}
    looks = {name: LOOKS.get(name, style.series(index)) for index, name in enumerate(names)}
    ends = ("mean", "lowest", "highest")
    groups = style.alike({name: rows[list(ends)].to_numpy().ravel() for name, rows in parts.items()})
    with style.context():
        height = 2.42 + 0.13 * len(names) + style.heading_height(title, style.TEXT_WIDTH)
        figure = style.new_figure(style.TEXT_WIDTH, height)
        left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
        for index, group in enumerate(groups):
            nested = style.nested(index, len(groups))
            label = "\n= ".join(_over_starts(parts[name], name) for name in group)
            _draw_regret(left, parts[group[0]], label, looks[group[0]].keywords | nested)
        for index, (name, rows) in enumerate(parts.items()):
            _draw_overall(right, rows, index, looks[name])
        left.set_ylabel("percentage points")
        left.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        style.load_axis(left, load, values, 3.0)
        left.grid(axis="y")
        left.set_title(f"(a) regret at each {load.noun}", loc="left")
        right.set_yticks(range(len(names)), [_over_loads(parts[name], name) for name in names])
        right.set_ylim(len(names) - 0.5, -0.5)
        right.set_xlim(left=min(0.0, right.get_xlim()[0]))
        right.set_xlabel("percentage points: mean (filled), worst (open)")
        right.grid(axis="x")
        right.set_title(f"(b) regret over all {load.plural}", loc="left")
        right.annotate("probes", (1, 1), (16, 5), "axes fraction", "offset points", ha="center")
        band = "band: smallest to largest over the starts" if (table["starts"] > 1).any() else None
        note = {"title": band, "title_fontsize": 7}
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3, columnspacing=1.4, **note)
        style.heading(figure, title)
    return figure


def _over_starts(rows: pd.DataFrame, name: str) -> str:
    """Name of an algorithm, with what its curve is if it has several starts."""
    return _label(name) + (" (mean of starts)" if (rows["starts"] > 1).any() else "")


def _over_loads(rows: pd.DataFrame, name: str) -> str:
    """Name of an algorithm, with the number of loads that its mean is over if its choice was not run at all of them."""
    known = int(rows["mean"].notna().sum())
    return _label(name) + (f"\n({known} of {len(rows)})" if known < len(rows) else "")


def _draw_regret(axes: Axes, rows: pd.DataFrame, label: str, look: Mapping[str, Any]) -> None:
    x = np.arange(len(rows))
    axes.plot(x, 100 * rows["mean"], label=label, **look)
    if (rows["starts"] > 1).any():
        axes.fill_between(x, 100 * rows["lowest"], 100 * rows["highest"], color=look["color"], alpha=0.15, linewidth=0)


def _draw_overall(axes: Axes, rows: pd.DataFrame, index: int, look: style.Series) -> None:
    rows = rows.dropna(subset=["mean"])
    # Over every start at every density, as selection_summary.csv: a density counts as often as it has starts.
    mean, probes = (float(np.average(rows[name], weights=rows["starts"])) for name in ("mean", "probes"))
    mean, worst = 100 * mean, 100 * rows["highest"].max()
    point = {"color": look.colour, "marker": look.marker, "linestyle": "", "markersize": 5}
    axes.plot([mean, worst], [index, index], color=look.colour, linewidth=0.8)
    axes.plot(worst, index, markerfacecolor="white", **point)
    axes.plot(mean, index, **point)
    place = axes.get_yaxis_transform()
    axes.annotate(f"{probes:.1f}", (1, index), (16, 0), place, "offset points", ha="center", va="center")


def _label(name: str) -> str:
    return name.replace("algorithm", "Algorithm")
