"""Draw one panel of a phase diagram: coloured cells, their marks, borders, names of regions, a colour bar."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator

from three_regime.analysis.regimes import REGIMES
from three_regime.figures import style
from three_regime.figures.borders import roomiest_point, width_at
from three_regime.figures.panels import panel_of
from three_regime.figures.phase_scene import BORDERS, Scene, printed_number


def _limits(scene: Scene, name: str) -> tuple[float, float]:
    """Ends of the colours: those of the values, unless they would show noise as a difference."""
    panel, values = panel_of(name), scene.values(name)
    if name == "lmc" and not (scene.code == 0).any():
        return scene.thresholds.lmc, 0.0
    if np.isnan(values).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (low, high) if high - low > 1e-9 else (low - 0.5 / 100 * panel.factor, high + 0.5 / 100 * panel.factor)


def draw(axes: Axes, scene: Scene, name: str, prefix: str) -> None:
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
        axes.add_patch(missing_patch((column, row)))
    for row, column in np.argwhere(scene.chance & ~missing):
        axes.add_patch(chance_patch((column, row)))
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


def _ticks(axes: Axes, scene: Scene) -> None:
    plane = scene.plane
    for axis, labels, inches, upright in (
        (axes.xaxis, plane.load_labels, scene.panel_width, False),
        (axes.yaxis, plane.temperature_labels, scene.height, True),
    ):
        places = style.tick_places(labels, inches, upright=upright)
        axis.set_ticks([place + 0.5 for place in places], [labels[place] for place in places])
    axes.tick_params(axis="both", rotation=0, pad=1.5, length=2)
    axes.set_xlabel(plane.load.label, labelpad=2)
    axes.set_ylabel(f"cold ← {scene.knob.label} → hot", labelpad=3)


def missing_patch(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor="0.92", edgecolor="0.55", hatch="//////", linewidth=0, gid="not-run")


def chance_patch(corner: tuple[float, float]) -> Rectangle:
    return Rectangle(corner, 1, 1, facecolor="0.7", edgecolor="white", linewidth=0.25, gid="chance")


def _corner_patch(column: int, row: int, scene: Scene) -> Polygon:
    """Marks the upper right corner of a cell."""
    width, height = (min(0.4, _CORNER / side) for side in scene.cell)
    corner = [(column + 1 - width, row), (column + 1, row), (column + 1, row + height)]
    return Polygon(corner, gid="one-seed", zorder=2.9, facecolor=_MARK, edgecolor="black", linewidth=0.4)


_CORNER = 0.08
"""Inches that a marked corner takes at most."""

_MARK = "#E69F00"
ONE_SEED = {
    "linestyle": "",
    "marker": [(-0.5, 0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5)],
    "markersize": 5,
    "markerfacecolor": _MARK,
    "markeredgecolor": "black",
    "markeredgewidth": 0.4,
}


def _draw_borders(axes: Axes, scene: Scene) -> None:
    for border in BORDERS:
        for line in scene.lines[border.name]:
            axes.plot(*line.T, color="white", linewidth=3.0, solid_capstyle="butt", zorder=3, gid="casing")
        for line in scene.lines[border.name]:
            axes.plot(
                *line.T, color="black", linewidth=1.4, linestyle=border.dash, zorder=3.1, gid=f"border-{border.name}"
            )


def _mark_decided(axes: Axes, scene: Scene, *, in_corner: bool) -> None:
    """A dot in every cell whose regime is decided: in its middle, or beside its value in the upper left corner."""
    rows, columns = np.nonzero(scene.decided)
    if len(rows):
        x, y = (0.055 / side for side in scene.cell) if in_corner else (0.5, 0.5)
        axes.plot(columns + x, rows + y, gid="decided", zorder=2.95, **DECIDED)


DECIDED = {
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


def _name_in_cells(axes: Axes, scene: Scene) -> None:
    """The name of each region below the value of its middle cell."""
    for code, name in enumerate(REGIMES):
        cells = np.argwhere(scene.code == code)
        if len(cells):
            row, column = cells[np.argmin(((cells - cells.mean(axis=0)) ** 2).sum(axis=1))]
            _name(axes, (column + 0.5, row + 0.74), name, 0)


def _name_regions(axes: Axes, scene: Scene, marked: np.ndarray) -> None:
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
    return [printed_number(float(tick), decimals) for tick in ticks]
