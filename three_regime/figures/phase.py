"""Phase diagrams: measures over the temperature × density plane with the computed regime borders (paper, Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle
from matplotlib.ticker import MaxNLocator

from three_regime.analysis.regimes import CHANCE, REGIMES
from three_regime.config.knobs import Knob
from three_regime.config.measures import measured_columns
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.figures import style
from three_regime.figures.borders import border_lines, roomiest_point, width_at
from three_regime.figures.cells import Plane, require

_CODES = {name: code for code, name in enumerate(REGIMES)}


@dataclass(frozen=True)
class Panel:
    """How one column of grid.csv is shown.

    Attributes
    ----------
    label
        With unit.
    factor
        From the unit of the table to that of the label.
    low_is_good
        Whether a low value is good: the light end of the colours.
    decimals
        Of a value printed in its cell, where there is room.
    """

    label: str
    factor: float
    low_is_good: bool
    decimals: int = 3

    @property
    def name(self) -> str:
        """The label without its unit."""
        return self.label.split("(")[0].strip(" ,\n").replace("\n", " ")


PANELS: dict[str, Panel] = {
    "test_error": Panel("test error\n(%)", 100, True, 1),
    "normalised_test_error": Panel("normalised test error\n(percentage points)", 100, True, 1),
    "lmc": Panel("LMC, training error\n(fraction)", 1, False),
    "cka_softmax": Panel("CKA of softmax\noutputs (0 to 1)", 1, False),
    "dense_test_error": Panel("dense test error\n(%)", 100, True, 1),
    "lmc_middle": Panel("mean deviation,\nt 0.3…0.7 (fraction)", 1, False),
    "lmc_nll": Panel("LMC, training NLL\n(nats)", 1, False),
    "lmc_test": Panel("LMC, test error\n(fraction)", 1, False),
    "cka_logits": Panel("CKA of logits\n(0 to 1)", 1, False),
}
"""Every measure that can be a panel; the first four are those of Figure 2, in its order."""

FIGURE_2 = tuple(PANELS)[:4]


def panel_of(metric: str) -> Panel:
    """How a measure is shown, an additional one too.

    Raises
    ------
    UserError
        When the measure is unknown.
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
    """How the border called `name` in `Thresholds` is drawn, and what it means that there is none."""

    name: str
    dash: object
    what: str
    measure: str


_BORDERS = (
    _Border("lmc", "-", "border of Regime I", "LMC"),
    _Border("cka", (0, (3.2, 1.4)), "border II-A / II-B", "CKA"),
)


def phase_diagram(
    grid: pd.DataFrame, regimes: pd.DataFrame, knob: Knob, thresholds: Thresholds, title: str = ""
) -> Figure:
    """Four panels, two by two: test error, normalised test error, LMC and CKA (paper, Figure 2).

    Densities (of prunable weights) increase to the right as equal columns; temperatures fall from top to bottom. All
    panels carry the same borders along the edges of cells (solid: Regime I, by LMC; dashed: II-A / II-B, by CKA),
    region names, a dot in every cell whose regime is decided, plain grey where networks answer at chance, and grey
    hatching where a cell was not run. A corner is filled where one dense seed dominates the spread of the panel's
    measure. Where cells are large enough their values are printed in them. A panel that says nothing, because it was
    not measured or is the same in every cell, is left out, and a line below says so. Without a cell in Regime I the
    colours of LMC run from the threshold to 0, so that noise does not look like a barrier.

    Parameters
    ----------
    grid
        grid.csv of one study; errors are fractions. Cells not run are absent or NaN.
    regimes
        regimes.csv of the same study.
    knob
        What sets the temperature.
    thresholds
        Those of regimes.csv, named in the legend beside their borders.
    title
        Heading; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        ``style.SCREEN_WIDTH`` wide; every letter is at least 7 pt at that size.

    Raises
    ------
    UserError
        When a table lacks a column or holds several studies.
    """
    with style.context():
        scene = _Scene.of(grid, regimes, knob, thresholds, 1.86)
        shown, said = _telling(scene)
        rows = -(-len(shown) // 2)
        legend = _Legend.of(scene, shown, said, 2, style.SCREEN_WIDTH)
        height = rows * (scene.height + 0.92) + legend.height + style.heading_height(title, style.SCREEN_WIDTH)
        figure = style.new_figure(style.SCREEN_WIDTH if len(shown) > 1 else style.COLUMN_WIDTH, height)
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.04, hspace=0.02)
        axes = figure.subplots(rows, min(2, len(shown)), sharey=True, squeeze=False).ravel()
        for empty in axes[len(shown) :]:
            empty.remove()
        for index, (name, one) in enumerate(zip(shown, axes, strict=False)):
            _draw_panel(one, scene, name, f"({'abcd'[index]}) ")
            if index % 2:
                one.set_ylabel("")
                one.tick_params(axis="y", labelleft=False)
        legend.draw(figure)
        style.heading(figure, title)
    return figure


def _telling(scene: _Scene) -> tuple[list[str], list[str]]:
    """The panels of Figure 2 that say something, and a sentence for each of the others."""
    shown, said = [], []
    cells = scene.plane.shape[0] * scene.plane.shape[1]
    for name in FIGURE_2:
        values = scene.values(name)
        known = values[~np.isnan(values)]
        if not len(known):
            said.append(f"{PANELS[name].name}: not measured")
        elif len(known) > 1 and np.ptp(known) < 1e-9:
            said.append(f"{PANELS[name].name}: {style.number(known[0])} in every cell")
        elif name == "normalised_test_error" and cells == 1:
            said.append(f"{PANELS[name].name}: nothing to compare with")
        else:
            shown.append(name)
    return (shown, said) if shown else (list(FIGURE_2), [])


def panel_figure(
    grid: pd.DataFrame, regimes: pd.DataFrame, knob: Knob, thresholds: Thresholds, metric: str, title: str = ""
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
        scene = _Scene.of(grid, regimes, knob, thresholds, 2.85)
        legend = _Legend.of(scene, (metric,), [], 2, style.COLUMN_WIDTH)
        height = scene.height + 0.8 + legend.height + style.heading_height(title, style.COLUMN_WIDTH)
        figure = style.new_figure(style.COLUMN_WIDTH, height)
        _draw_panel(figure.subplots(), scene, metric, "")
        legend.draw(figure)
        style.heading(figure, title)
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
    decided
        Same shape, true where a cell's label is decided.
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
    decided: np.ndarray
    chance: np.ndarray
    lines: dict[str, list[np.ndarray]]
    thresholds: Thresholds

    @classmethod
    def of(
        cls, grid: pd.DataFrame, regimes: pd.DataFrame, knob: Knob, thresholds: Thresholds, panel_width: float
    ) -> _Scene:
        plane = Plane.of(grid, knob)
        require(regimes, ("regime", "decided"), "regimes.csv")
        unknown = set(regimes["regime"].dropna()) - {*REGIMES, CHANCE}
        if unknown:
            raise UserError(f"regimes.csv holds the regime {sorted(unknown)[0]!r}; known are {', '.join(REGIMES)}")
        names = plane.matrix(regimes, "regime", "regimes.csv")
        code = np.array([[_CODES.get(name, np.nan) for name in row] for row in names], dtype=float)
        labelled = plane.matrix(regimes, "decided", "regimes.csv")
        decided = ~np.isnan(code) & np.where(pd.isna(labelled), 0, labelled).astype(bool)
        connected = np.where(code == 0, np.nan, code - 1)
        inside = {"lmc": np.where(np.isnan(code), np.nan, code == 0), "cka": connected}
        lines = {name: border_lines(region) for name, region in inside.items()}
        return cls(knob, plane, panel_width, grid, code, decided, names == CHANCE, lines, thresholds)

    @property
    def height(self) -> float:
        """Inches for the cells: room for a 7 pt label a row, a value and a name where there are few, never flat."""
        rows = self.plane.shape[0]
        return max(1.3, min(0.28 * rows, 1.7), 0.125 * rows)

    @property
    def cell(self) -> tuple[float, float]:
        """Inches, about, of a cell: width and height."""
        rows, columns = self.plane.shape
        return self.panel_width / columns, self.height / rows

    def values(self, name: str) -> np.ndarray:
        """Shape (rows, columns): the measure `name` in the unit of its panel, NaN where not run or at chance."""
        values = self.plane.matrix(self.grid, name).astype(float) * panel_of(name).factor
        return np.where(self.chance, np.nan, values)

    def missing(self, name: str) -> np.ndarray:
        """Shape (rows, columns): true where the measure `name` was not run."""
        return pd.isna(self.plane.matrix(self.grid, name))

    def printed(self, name: str) -> list[list[str]] | None:
        """The values as they stand in the cells, with as many decimals as fit; None where cells are too small."""
        width, height = self.cell
        most = panel_of(name).decimals
        for decimals in range(most, min(2, most) - 1, -1):
            texts = [[_printed(value, decimals) for value in row] for row in self.values(name)]
            longest = max(len(text) for row in texts for text in row)
            if height >= _PRINTED_HEIGHT and longest * style.DIGIT <= 0.94 * width:
                return texts
        return None

    def one_seed(self, name: str) -> np.ndarray:
        """Shape (rows, columns): true where one dense seed dominates the spread of the measure `name`."""
        column = f"{name}_one_seed"
        if column not in self.grid:
            return np.zeros(self.plane.shape, dtype=bool)
        return ~pd.isna(self.plane.matrix(self.grid, column)) & ~self.chance


_PRINTED_HEIGHT = 0.26
"""Inches that a cell needs for its value and the name of its region below."""


def _printed(value: float, decimals: int) -> str:
    return "" if np.isnan(value) else f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def _limits(scene: _Scene, name: str) -> tuple[float, float]:
    """Ends of the colours: those of the values, unless they would show noise as a difference."""
    panel, values = panel_of(name), scene.values(name)
    if name == "lmc" and not (scene.code == 0).any():
        return scene.thresholds.lmc, 0.0
    if np.isnan(values).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (low, high) if high - low > 1e-9 else (low - 0.5 / 100 * panel.factor, high + 0.5 / 100 * panel.factor)


def _draw_panel(axes: Axes, scene: _Scene, name: str, prefix: str) -> None:
    panel = panel_of(name)
    values, missing, marked = scene.values(name), scene.missing(name), scene.one_seed(name)
    low, high = _limits(scene, name)
    colours = style.sequential(light_is_low=panel.low_is_good)
    sns.heatmap(
        values, ax=axes, cmap=colours, vmin=low, vmax=high, cbar=False, linewidths=0.25, linecolor="white",
        xticklabels=False, yticklabels=False,
    )  # fmt: skip
    _ticks(axes, scene)
    for row, column in np.argwhere(missing):
        axes.add_patch(_missing_patch((column, row)))
    for row, column in np.argwhere(scene.chance & ~missing):
        axes.add_patch(_chance_patch((column, row)))
    for row, column in np.argwhere(marked):
        axes.add_patch(_corner_patch(column, row, scene))
    for side in axes.spines.values():
        side.set_visible(True)
    _draw_borders(axes, scene)
    printed = scene.printed(name)
    _mark_decided(axes, scene, in_corner=printed is not None)
    if printed is None:
        _name_regions(axes, scene, marked)
    else:
        _print_values(axes, printed, values, lambda value: colours((value - low) / (high - low)))
        _name_in_cells(axes, scene)
    _colour_bar(axes, prefix + panel.label if prefix else panel.label.replace("\n", " "), scene.panel_width)


def _ticks(axes: Axes, scene: _Scene) -> None:
    plane = scene.plane
    for axis, labels, inches, upright in (
        (axes.xaxis, plane.density_labels, scene.panel_width, False),
        (axes.yaxis, plane.temperature_labels, scene.height, True),
    ):
        places = style.tick_places(labels, inches, upright=upright)
        axis.set_ticks([place + 0.5 for place in places], [labels[place] for place in places])
    axes.tick_params(axis="both", rotation=0, pad=1.5, length=2)
    axes.set_xlabel(style.DENSITY, labelpad=2)
    axes.set_ylabel(f"cold ← {scene.knob.label} → hot", labelpad=3)


def _missing_patch(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor="0.92", edgecolor="0.55", hatch="//////", linewidth=0, gid="not-run")


def _chance_patch(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor="0.7", edgecolor="white", linewidth=0.25, gid="chance")


def _corner_patch(column: int, row: int, scene: _Scene) -> Polygon:
    """Marks the upper right corner of a cell."""
    width, height = (min(0.4, _CORNER / side) for side in scene.cell)
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


def _mark_decided(axes: Axes, scene: _Scene, *, in_corner: bool) -> None:
    """A dot in every cell whose regime is decided: in its middle, or beside its value in the upper left corner."""
    rows, columns = np.nonzero(scene.decided)
    if len(rows):
        x, y = (0.055 / side for side in scene.cell) if in_corner else (0.5, 0.5)
        axes.plot(columns + x, rows + y, gid="decided", zorder=2.95, **_DECIDED)


_DECIDED = {
    "linestyle": "",
    "marker": "o",
    "markersize": 2.0,
    "markerfacecolor": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
}


def _print_values(axes: Axes, texts: list[list[str]], values: np.ndarray, colour: Callable[[float], tuple]) -> None:
    for row, column in np.argwhere(~np.isnan(values)):
        red, green, blue, _ = colour(values[row, column])
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(
            column + 0.5, row + 0.36, texts[row][column], ha="center", va="center", fontsize=7, zorder=3.5,
            color="white" if dark else "black", gid="value",
        )  # fmt: skip


def _name_in_cells(axes: Axes, scene: _Scene) -> None:
    """The name of each region below the value of its middle cell."""
    for code, name in enumerate(REGIMES):
        cells = np.argwhere(scene.code == code)
        if len(cells):
            row, column = cells[np.argmin(((cells - cells.mean(axis=0)) ** 2).sum(axis=1))]
            _name(axes, (column + 0.5, row + 0.74), name, 0)


def _name_regions(axes: Axes, scene: _Scene, marked: np.ndarray) -> None:
    rows, columns = scene.plane.shape
    obstacles = [line for lines in scene.lines.values() for line in lines]
    obstacles += [np.array([[column + 0.95, row + 0.05]]) for row, column in np.argwhere(marked)]
    for code, name in enumerate(REGIMES):
        region = scene.code == code
        point = roomiest_point(region, obstacles, cell_width=0.45 / columns, cell_height=1 / rows)
        if point is None:
            continue
        room = width_at(region, point) * scene.cell[0]
        _name(axes, point, name, 90 if room < _LABEL_WIDTH else 0)


def _name(axes: Axes, point: tuple[float, float], name: str, rotation: float) -> None:
    box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    look = {"ha": "center", "va": "center", "fontsize": 7.5, "fontweight": "bold", "zorder": 4, "bbox": box}
    axes.text(*point, name, rotation=rotation, gid="region", **look)


_LABEL_WIDTH = 0.4
"""Inches that the longest region name takes with its margin; where a region is narrower the name stands upright."""


def _colour_bar(axes: Axes, label: str, width: float) -> None:
    mesh = next(item for item in axes.collections if isinstance(item, QuadMesh))
    low, high = mesh.get_clim()
    values = np.ma.compressed(mesh.get_array())
    beyond = bool(len(values)) and values.max() > high + 1e-9
    bar = axes.figure.colorbar(
        mesh, ax=axes, location="top", aspect=width / 0.065, pad=0.015, fraction=0.06,
        extend="max" if beyond else "neither", extendfrac=0.04,
    )  # fmt: skip
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 4, 5, 10]).tick_values(low, high) if len(values) else np.array([])
    ticks = ticks[(ticks >= low - 1e-9) & (ticks <= high + 1e-9)]
    bar.set_ticks(ticks, labels=_tick_labels(ticks))
    bar.ax.minorticks_off()
    # Beside the end of a bar stands the beginning of the next.
    for tick, text in zip(ticks, bar.ax.get_xticklabels(), strict=True):
        place = (tick - low) / (high - low)
        text.set_horizontalalignment("left" if place < 0.06 else "right" if place > 0.94 else "center")
    bar.ax.tick_params(length=2, pad=1)
    bar.set_label(label, fontsize=8, labelpad=3)
    bar.outline.set_linewidth(0.5)


def _tick_labels(ticks: np.ndarray) -> list[str]:
    """With as many decimals as the step between them needs."""
    texts = [style.number(round(float(tick), 9) + 0.0) for tick in ticks]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [_printed(float(tick), decimals) for tick in ticks]


@dataclass(frozen=True)
class _Legend:
    """What occurs in the panels, and sentences on what does not.

    Attributes
    ----------
    columns
        Most entries beside each other.
    note
        Sentences in lines that fit the figure; empty for none.
    """

    handles: list[Line2D | Patch]
    columns: int
    note: str

    @classmethod
    def of(cls, scene: _Scene, shown: Sequence[str], said: Sequence[str], columns: int, width: float) -> _Legend:
        sentences = [*_absent(scene), *said]
        if inherited := scene.thresholds.inherited:
            sentences.append(f"thresholds set for {inherited}, not for this data set")
        return cls(_handles(scene, shown), columns, style.fitted("; ".join(sentences), width, 7))

    @property
    def height(self) -> float:
        """Inches that the legend takes."""
        lines = self.note.count("\n") + 1 if self.note else 0
        return 0.15 * -(-len(self.handles) // self.columns) + 0.125 * lines + 0.1

    def draw(self, figure: Figure) -> None:
        legend = figure.legend(
            handles=self.handles,
            loc="outside lower center",
            ncols=self.columns,
            columnspacing=1.2,
            title=self.note or None,
            title_fontsize=7,
        )
        legend.get_title().set_multialignment("center")


def _handles(scene: _Scene, shown: Sequence[str]) -> list[Line2D | Patch]:
    """Of what can be seen in the panels `shown`."""
    handles: list[Line2D | Patch] = []
    for border in _BORDERS:
        if scene.lines[border.name]:
            handles.append(Line2D([], [], color="black", linewidth=1.4, linestyle=border.dash))
            handles[-1].set_label(f"{border.what} ({_threshold(scene, border)})")
    if scene.decided.any():
        handles.append(Line2D([], [], label="regime decided", **_DECIDED))
    if any(scene.one_seed(name).any() for name in shown):
        handles.append(Line2D([], [], label="one-seed spread", **_ONE_SEED))
    if any(scene.missing(name).any() for name in shown):
        handles.append(_missing_patch((0, 0)))
        handles[-1].set_label("not run")
    if (scene.chance & ~np.all([scene.missing(name) for name in shown], axis=0)).any():
        handles.append(_chance_patch((0, 0)))
        handles[-1].set_label("at chance")
    return handles


def _threshold(scene: _Scene, border: _Border) -> str:
    return f"{border.measure} = {style.number(getattr(scene.thresholds, border.name))}"


def _absent(scene: _Scene) -> list[str]:
    """A sentence for each border that is not there, and one where no regime is decided."""
    labelled = ~np.isnan(scene.code)
    if not labelled.any():
        return []
    said = [f"no {each.what} ({_threshold(scene, each)})" for each in _BORDERS if not scene.lines[each.name]]
    return said if scene.decided.any() else [*said, "no regime is decided"]
