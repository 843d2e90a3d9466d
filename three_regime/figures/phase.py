"""Phase diagrams: measures over the temperature × density plane with the computed regime borders (paper, Figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from three_regime.analysis.regimes import CHANCE, REGIMES
from three_regime.config.knobs import Knob
from three_regime.config.measures import measured_columns
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.figures import style
from three_regime.figures.borders import border_lines, crossings_in_gaps, roomiest_point, width_at
from three_regime.figures.cells import Plane, require

_CODES = {name: code for code, name in enumerate(REGIMES)}


@dataclass(frozen=True)
class Panel:
    """How one column of grid.csv is shown: its label with unit, its factor, and whether a low value is good."""

    label: str
    factor: float
    low_is_good: bool


PANELS: dict[str, Panel] = {
    "test_error": Panel("test error\n(%)", 100, True),
    "normalised_test_error": Panel("normalised test error\n(percentage points)", 100, True),
    "lmc": Panel("LMC, training error\n(fraction)", 1, False),
    "cka_softmax": Panel("CKA of softmax\noutputs (0 to 1)", 1, False),
    "dense_test_error": Panel("dense test error\n(%)", 100, True),
    "lmc_middle": Panel("mean deviation,\nt 0.3…0.7 (fraction)", 1, False),
    "lmc_nll": Panel("LMC, training NLL\n(nats)", 1, False),
    "lmc_test": Panel("LMC, test error\n(fraction)", 1, False),
    "cka_logits": Panel("CKA of logits\n(0 to 1)", 1, False),
}
"""Every measure that can be a panel; the first four are those of Figure 2, in its order."""

FIGURE_2 = tuple(PANELS)[:4]


def panel_of(metric: str) -> Panel:
    """How a measure is shown, one beside LMC and CKA too.

    Raises
    ------
    UserError
        When there is no such measure.
    """
    if metric in PANELS:
        return PANELS[metric]
    also = measured_columns()
    if metric not in also:
        raise UserError(f"unknown metric {metric!r} for a phase diagram; choose one of {', '.join([*PANELS, *also])}")
    column = also[metric][1]
    return Panel(column.label, 1, column.low_is_good)


@dataclass(frozen=True)
class _Border:
    """How the border called `name` in boundaries.csv and in `Thresholds` is drawn."""

    name: str
    dash: object
    what: str
    measure: str


_BORDERS = (
    _Border("lmc", "-", "border of Regime I", "LMC"),
    _Border("cka", (0, (3.2, 1.4)), "border II-A / II-B", "CKA"),
)


def phase_diagram(
    grid: pd.DataFrame,
    regimes: pd.DataFrame,
    boundaries: pd.DataFrame,
    knob: Knob,
    thresholds: Thresholds,
    title: str = "",
) -> Figure:
    """Four panels: test error, normalised test error, LMC and CKA (paper, Figure 2).

    Densities (of prunable weights) increase to the right as equal columns; temperatures fall from top to bottom. All
    panels carry the same borders (solid: Regime I, by LMC; dashed: II-A / II-B, by CKA), region names, a dot in every
    undecided cell, plain grey where networks answer at chance, and grey hatching where a cell was not run. A corner is
    filled where one dense seed dominates the spread of the panel's measure.

    Parameters
    ----------
    grid
        grid.csv of one study; errors are fractions. Cells not run are absent or NaN.
    regimes
        regimes.csv of the same study.
    boundaries
        boundaries.csv of the same study; may be empty.
    knob
        What sets the temperature.
    thresholds
        Those of regimes.csv and boundaries.csv, named in the legend beside their borders.
    title
        Heading; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide; every letter is at least 7 pt at that size.

    Raises
    ------
    UserError
        When a table lacks a column, holds several studies, or a boundary lies at a density that the grid lacks.
    """
    with style.context():
        scene = _Scene.of(grid, regimes, boundaries, knob, thresholds, 1.15)
        height = _plot_height(scene.plane)
        figure = style.new_figure(
            style.TEXT_WIDTH, height + (1.23 if title else 1.01) + _legend_height(scene, FIGURE_2, 4)
        )
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.035)
        axes = figure.subplots(1, len(FIGURE_2), sharey=True)
        for letter, name, one in zip("abcd", FIGURE_2, axes, strict=True):
            _draw_panel(one, scene, name, f"({letter}) ")
        for one in axes[1:]:
            one.set_ylabel("")
            one.tick_params(axis="y", labelleft=False)
        _finish(figure, scene, FIGURE_2, title, legend_columns=4)
    return figure


def panel_figure(
    grid: pd.DataFrame,
    regimes: pd.DataFrame,
    boundaries: pd.DataFrame,
    knob: Knob,
    thresholds: Thresholds,
    metric: str,
    title: str = "",
) -> Figure:
    """One panel of `phase_diagram`, one column wide.

    Parameters
    ----------
    metric
        One that `panel_of` knows; other parameters as for `phase_diagram`.

    Raises
    ------
    UserError
        As for `phase_diagram`, and when `metric` is unknown.
    """
    panel_of(metric)
    with style.context():
        scene = _Scene.of(grid, regimes, boundaries, knob, thresholds, 2.85)
        height = _plot_height(scene.plane) + (1.1 if title else 0.88) + _legend_height(scene, (metric,), 2)
        figure = style.new_figure(style.COLUMN_WIDTH, height)
        _draw_panel(figure.subplots(), scene, metric, "")
        _finish(figure, scene, (metric,), title, legend_columns=2)
    return figure


def phase_table(grid: pd.DataFrame, regimes: pd.DataFrame) -> pd.DataFrame:
    """The cells behind a phase diagram: grid.csv with the regime, its confidence and whether it is decided."""
    require(regimes, ("temperature", "density", "regime", "decided", "confidence"), "regimes.csv")
    labels = regimes[["temperature", "density", "regime", "decided", "confidence"]]
    if "one_seed" in regimes:
        labels = labels.assign(one_seed=regimes["one_seed"])
    return grid.merge(labels, on=["temperature", "density"], how="left", validate="one_to_one")


@dataclass(frozen=True)
class _Scene:
    """What all panels of a figure share.

    Attributes
    ----------
    panel_width
        Inches, about.
    code
        Shape (rows, columns): index into `REGIMES`, or NaN.
    undecided
        Same shape, true where a cell has a label that is not decided.
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
    undecided: np.ndarray
    chance: np.ndarray
    lines: dict[str, list[np.ndarray]]
    thresholds: Thresholds

    @classmethod
    def of(
        cls,
        grid: pd.DataFrame,
        regimes: pd.DataFrame,
        boundaries: pd.DataFrame,
        knob: Knob,
        thresholds: Thresholds,
        panel_width: float,
    ) -> _Scene:
        plane = Plane.of(grid, knob)
        require(regimes, ("regime", "decided"), "regimes.csv")
        require(boundaries, ("boundary", "density", "temperature_index"), "boundaries.csv")
        unknown = set(regimes["regime"].dropna()) - {*REGIMES, CHANCE}
        if unknown:
            raise UserError(f"regimes.csv holds the regime {sorted(unknown)[0]!r}; known are {', '.join(REGIMES)}")
        names = plane.matrix(regimes, "regime", "regimes.csv")
        code = np.array([[_CODES.get(name, np.nan) for name in row] for row in names], dtype=float)
        chance = names == CHANCE
        decided = plane.matrix(regimes, "decided", "regimes.csv")
        undecided = ~np.isnan(code) & (np.where(pd.isna(decided), 1, decided).astype(float) == 0)
        connected = np.where(code == 0, np.nan, code - 1)
        inside = {"lmc": np.where(np.isnan(code), np.nan, code == 0), "cka": connected}
        lines = {}
        for border in _BORDERS:
            rows = boundaries[boundaries["boundary"] == border.name].dropna(subset=["temperature_index"])
            crossings: dict[int, list[float]] = {}
            for density, position in zip(rows["density"], rows["temperature_index"], strict=True):
                crossings.setdefault(plane.column(density), []).append(float(position))
            lines[border.name] = border_lines(inside[border.name], crossings)
            lines[border.name] += crossings_in_gaps(np.isnan(code), crossings)
        return cls(knob, plane, panel_width, grid, code, undecided, chance, lines, thresholds)

    def one_seed(self, name: str) -> np.ndarray:
        """Shape (rows, columns): true where one dense seed dominates the spread of the measure `name`."""
        column = f"{name}_one_seed"
        if column not in self.grid:
            return np.zeros(self.plane.shape, dtype=bool)
        return ~pd.isna(self.plane.matrix(self.grid, column)) & ~self.chance


def _plot_height(plane: Plane) -> float:
    """Inches for the cells: room for a 7 pt label a row, and never a flat strip."""
    return max(1.5, 0.125 * plane.shape[0])


def _draw_panel(axes: Axes, scene: _Scene, name: str, prefix: str) -> None:
    panel, plane = panel_of(name), scene.plane
    values = plane.matrix(scene.grid, name).astype(float) * panel.factor
    missing = np.isnan(values)
    values[scene.chance] = np.nan
    low, high = (np.nanmin(values), np.nanmax(values)) if not np.isnan(values).all() else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5 / 100 * panel.factor, high + 0.5 / 100 * panel.factor
    sns.heatmap(
        values,
        ax=axes,
        cmap=style.sequential(light_is_low=panel.low_is_good),
        vmin=low,
        vmax=high,
        cbar=False,
        linewidths=0.25,
        linecolor="white",
        xticklabels=plane.density_labels,
        yticklabels=plane.temperature_labels,
    )
    axes.tick_params(axis="x", rotation=0, pad=1.5, length=2)
    axes.tick_params(axis="y", rotation=0, pad=1.5, length=2)
    axes.set_xlabel(style.DENSITY, labelpad=2)
    axes.set_ylabel(f"cold ← {scene.knob.label} → hot", labelpad=3)
    for row, column in np.argwhere(missing):
        axes.add_patch(_missing_patch((column, row)))
    for row, column in np.argwhere(scene.chance & ~missing):
        axes.add_patch(_chance_patch((column, row)))
    for row, column in np.argwhere(scene.one_seed(name)):
        axes.add_patch(_corner_patch(column, row, scene))
    for side in axes.spines.values():
        side.set_visible(True)
    _draw_borders(axes, scene)
    _name_regions(axes, scene, scene.one_seed(name))
    _colour_bar(axes, prefix + panel.label if prefix else panel.label.replace("\n", " "), scene.panel_width)


def _missing_patch(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor="0.92", edgecolor="0.55", hatch="//////", linewidth=0, gid="not-run")


def _chance_patch(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor="0.7", edgecolor="white", linewidth=0.25, gid="chance")


def _corner_patch(column: int, row: int, scene: _Scene) -> Polygon:
    """Marks the upper right corner of a cell."""
    rows, columns = scene.plane.shape
    width = min(0.4, _CORNER * columns / scene.panel_width)
    height = min(0.4, _CORNER * rows / _plot_height(scene.plane))
    corner = [(column + 1 - width, row), (column + 1, row), (column + 1, row + height)]
    return Polygon(corner, gid="one-seed", zorder=2.9, facecolor=_MARK, edgecolor="black", linewidth=0.4)


_CORNER = 0.08
"""Inches that a marked corner takes at most."""

_MARK = "#E69F00"
_ONE_SEED = {
    "linestyle": "",
    "marker": [(-0.5, 0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5)],
    "markersize": 5,
    "markerfacecolor": _MARK,
    "markeredgecolor": "black",
    "markeredgewidth": 0.4,
}


def _draw_borders(axes: Axes, scene: _Scene) -> None:
    for border in _BORDERS:
        for line in scene.lines[border.name]:
            axes.plot(*line.T, color="white", linewidth=3.0, solid_capstyle="butt", zorder=3, gid="casing")
        for line in scene.lines[border.name]:
            axes.plot(
                *line.T, color="black", linewidth=1.4, linestyle=border.dash, zorder=3.1, gid=f"border-{border.name}"
            )
    rows, columns = np.nonzero(scene.undecided)
    if len(rows):
        axes.plot(columns + 0.5, rows + 0.5, gid="undecided", zorder=4.2, **_UNDECIDED)  # never hidden by a name


_UNDECIDED = {
    "linestyle": "",
    "marker": "o",
    "markersize": 2.6,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
}


def _name_regions(axes: Axes, scene: _Scene, marked: np.ndarray) -> None:
    rows, columns = scene.plane.shape
    obstacles = [line for lines in scene.lines.values() for line in lines]
    obstacles += [np.array([[column + 0.5, row + 0.5]]) for row, column in np.argwhere(scene.undecided)]
    obstacles += [np.array([[column + 0.95, row + 0.05]]) for row, column in np.argwhere(marked)]
    for code, name in enumerate(REGIMES):
        region = scene.code == code
        point = roomiest_point(region, obstacles, cell_width=0.45 / columns, cell_height=1 / rows)
        if point is None:
            continue
        room = width_at(region, point) * scene.panel_width / columns
        axes.text(
            *point,
            name,
            rotation=90 if room < _LABEL_WIDTH else 0,
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            zorder=4,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )


_LABEL_WIDTH = 0.25
"""Inches that the longest region name takes; where a region is narrower the name stands upright."""


def _colour_bar(axes: Axes, label: str, width: float) -> None:
    mesh = next(item for item in axes.collections if isinstance(item, QuadMesh))
    bar = axes.figure.colorbar(mesh, ax=axes, location="top", aspect=width / 0.065, pad=0.015, fraction=0.06)
    empty = np.ma.getmaskarray(mesh.get_array()).all()
    bar.locator = NullLocator() if empty else MaxNLocator(nbins=4, steps=[1, 2, 4, 5, 10])
    bar.formatter = ScalarFormatter(useOffset=False)
    bar.update_ticks()
    bar.ax.tick_params(length=2, pad=1)
    bar.set_label(label, fontsize=8, labelpad=3)
    bar.outline.set_linewidth(0.5)


def _handles(scene: _Scene, shown: tuple[str, ...]) -> list[Line2D | Patch]:
    """Of the legend: both borders, and what else occurs in the panels `shown`."""
    handles: list[Line2D | Patch] = []
    for border in _BORDERS:
        there = bool(scene.lines[border.name])
        value = style.number(getattr(scene.thresholds, border.name))
        handles.append(Line2D([], [], color="black", linewidth=1.4, linestyle=border.dash if there else ""))
        handles[-1].set_label(f"{'' if there else 'no '}{border.what} ({border.measure} = {value})")
    if scene.undecided.any():
        handles.append(Line2D([], [], label="undecided", **_UNDECIDED))
    if any(scene.one_seed(name).any() for name in shown):
        handles.append(Line2D([], [], label="one-seed spread", **_ONE_SEED))
    if any(pd.isna(scene.plane.matrix(scene.grid, name)).any() for name in shown):
        handles.append(_missing_patch((0, 0)))
        handles[-1].set_label("not run")
    if scene.chance.any():
        handles.append(_chance_patch((0, 0)))
        handles[-1].set_label("at chance")
    return handles


def _legend_height(scene: _Scene, shown: tuple[str, ...], columns: int) -> float:
    """Inches that the legend takes."""
    return 0.15 * -(-len(_handles(scene, shown)) // columns) + 0.2 * bool(scene.thresholds.inherited)


def _finish(figure: Figure, scene: _Scene, shown: tuple[str, ...], title: str, *, legend_columns: int) -> None:
    """Legend, with a word on thresholds of another data set, and heading."""
    inherited = scene.thresholds.inherited
    figure.legend(
        handles=_handles(scene, shown),
        loc="outside lower center",
        ncols=legend_columns,
        columnspacing=1.6,
        title=f"thresholds set for {inherited}, not for this data set" if inherited else None,
        title_fontsize=7,
    )
    if title:
        figure.suptitle(title)
