"""Draw one panel of a phase diagram: coloured cells, their marks, borders, names of regions, a colour bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator

from three_regime.analysis.regimes import REGIMES
from three_regime.figures import style
from three_regime.figures.borders import connected, near, room_for, roomiest_point, width_at
from three_regime.figures.panels import NOISE, panel_of
from three_regime.figures.phase_scene import BORDERS, Scene, printed_number


def _limits(scene: Scene, name: str) -> tuple[float, float]:
    """Ends of the colours: those of the values, unless they would show noise as a difference."""
    panel, values, errors = panel_of(name), scene.values(name), scene.standard_errors(name)
    if name == "lmc" and not (scene.code == 0).any():
        return scene.thresholds.lmc, 0.0
    if np.isnan(values).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    least = panel.least if np.isnan(errors).all() else NOISE * float(np.nanmedian(errors))
    return panel.widened(low, high, max(least, 0.01 * panel.factor) if high - low < 1e-9 else least)


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
    """A dot in every cell whose regime is decided: in its middle, or beside its value in the upper left corner.

    It lies on the white box of a region's name, which may reach it though the letters do not.
    """
    rows, columns = np.nonzero(scene.decided)
    if len(rows):
        x, y = (0.055 / side for side in scene.cell) if in_corner else (0.5, 0.5)
        axes.plot(columns + x, rows + y, gid="decided", zorder=4.1, **DECIDED)


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
        for region in connected(scene.code == code):
            cells = np.argwhere(region)
            row, column = cells[np.argmin(((cells - cells.mean(axis=0)) ** 2).sum(axis=1))]
            _name(axes, (column + 0.5, row + 0.74), name, 0)


def _name_regions(axes: Axes, scene: Scene, marked: np.ndarray) -> None:
    """The name of each region that has room for it; of a regime without any, that of its largest region."""
    rows, columns = scene.plane.shape
    obstacles = [line for lines in scene.lines.values() for line in lines]
    obstacles += [np.array([[column + 0.95, row + 0.05]]) for row, column in np.argwhere(marked)]
    sizes = {"cell_width": 0.45 / columns, "cell_height": 1 / rows}
    for code, name in enumerate(REGIMES):
        regions = connected(scene.code == code)
        found = [_place(scene, region, marked, obstacles, name, sizes) for region in regions]
        placed = [place for place in found if place]
        if regions and not placed:
            point = roomiest_point(regions[0], obstacles, **sizes)
            narrow = width_at(regions[0], point) * scene.cell[0] < _LABEL_WIDTH
            placed = [(point, 90 if narrow and _is_wide(name) else 0)]
        for point, rotation in placed:
            _name(axes, point, name, rotation)


def _place(
    scene: Scene,
    region: np.ndarray,
    marked: np.ndarray,
    obstacles: Sequence[np.ndarray],
    name: str,
    sizes: Mapping[str, float],
) -> tuple[tuple[float, float], float] | None:
    """Point and rotation of a name that lies inside its region, off `marked` corners, its letters off dots."""
    corner = [min(0.4, _CORNER / side) for side in scene.cell]
    middle = (1 - corner[0] / 2, corner[1] / 2)
    letters = (style.text_width(name, _NAME_SIZE, "bold"), _LETTERS)
    for rotation, turned in ((0, letters), (90, letters[::-1])) if _is_wide(name) else ((0, letters),):
        box = [(inches + _MARGIN) / cell for inches, cell in zip(turned, scene.cell, strict=True)]
        off = room_for(region, box) & ~near(marked, np.add(box, corner), middle)
        between_columns = turned[0] + _DOTS[0] < scene.cell[0]
        for room in _DOTS if between_columns else _DOTS[1:]:
            dot = [(inches + room) / cell for inches, cell in zip(turned, scene.cell, strict=True)]
            free = off & ~near(scene.decided, dot)
            if (point := roomiest_point(region, obstacles, **sizes, among=free)) is not None:
                return point, rotation
    return None


def _is_wide(name: str) -> bool:
    """Whether a name is wider than high, so that it may stand upright: "I" would look like a dash."""
    return style.text_width(name, _NAME_SIZE, "bold") > _LETTERS


def _name(axes: Axes, point: tuple[float, float], name: str, rotation: float) -> None:
    box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    # Of an upright text matplotlib takes the height for the length.
    centred = "center" if rotation else "center_baseline"
    look = {"ha": "center", "va": centred, "fontsize": _NAME_SIZE, "fontweight": "bold", "bbox": box}
    axes.text(*point, name, rotation=rotation, gid="region", zorder=4, **look)


_NAME_SIZE = 7.5
_LETTERS = 0.076
"""Inches: the height of the letters of a name, all of them capitals."""
_MARGIN = 0.06
"""Inches, both sides together, that the box of a name adds to its letters."""
_DOTS = (0.08, 0.03)
"""Inches for the dot of a decided cell: with its surroundings if a name fits between two columns, and alone."""

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
    while _touch(ticks, low, high, width):
        ticks = ticks[::2]
    bar.set_ticks(ticks, labels=_tick_labels(ticks))
    bar.ax.minorticks_off()
    for tick, text in zip(ticks, bar.ax.get_xticklabels(), strict=True):
        text.set_horizontalalignment(_side((tick - low) / (high - low)))
    bar.ax.tick_params(length=2, pad=1)
    bar.set_label(label, fontsize=8, labelpad=3)
    bar.outline.set_linewidth(0.5)


def _side(place: float) -> str:
    """Alignment of a tick's label: beside the end of a bar stands the beginning of the next."""
    return "left" if place < 0.06 else "right" if place > 0.94 else "center"


def _touch(ticks: np.ndarray, low: float, high: float, inches: float) -> bool:
    """Whether labels of ticks touch on a bar that runs from `low` to `high` over so many inches."""
    places = (ticks - low) / (high - low)
    widths = np.array([style.text_width(label, 7) for label in _tick_labels(ticks)])
    before = np.array([{"left": 0.0, "center": 0.5, "right": 1.0}[_side(place)] for place in places])
    starts = inches * places - before * widths
    return bool((starts[1:] - (starts + widths)[:-1] < _GAP).any())


_GAP = 0.05
"""Inches between two labels of ticks."""


def _tick_labels(ticks: np.ndarray) -> list[str]:
    """With as many decimals as the step between them needs."""
    texts = [style.number(round(float(tick), 9) + 0.0) for tick in ticks]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [printed_number(float(tick), decimals) for tick in ticks]
