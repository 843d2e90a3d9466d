"""One look for every figure: sizes, fonts, colours and line styles, legible without colour.

Maps are sequential with monotone lightness (seaborn's mako; light is the good end). Lines use the Okabe–Ito
palette and differ in marker and dash as well, so that a grey print keeps them apart. Figures are made without
pyplot: nothing here leaves global state behind.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from three_regime.config.loads import Load

TEXT_WIDTH = 7.0
"""Inches: the width of a two-column page; figures are drawn at the size at which they are printed."""
COLUMN_WIDTH = 3.35
"""Inches: one column of a two-column page."""
SCREEN_WIDTH = 4.6
"""Inches: legible in the 430 pixels that half a README gives a picture, where 7 pt become 9 pixels."""

DIGIT = 0.062
"""Inches: the width of a digit at 7 pt."""

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same picture on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.88",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "hatch.linewidth": 0.5,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Series:
    """How one line looks: it differs from every other in colour, marker and dash."""

    colour: str
    marker: str
    dash: Any

    @property
    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dash}


SERIES: tuple[Series, ...] = (
    Series("#0072B2", "o", "-"),
    Series("#D55E00", "s", (0, (5, 1.5))),
    Series("#009E73", "^", (0, (1, 1))),
    Series("#000000", "D", (0, (6, 1.5, 1, 1.5))),
    Series("#CC79A7", "v", (0, (3, 1, 1, 1, 1, 1))),
    Series("#E69F00", "P", (0, (2, 2))),
    Series("#56B4E9", "X", (0, (8, 2))),
)
"""Okabe–Ito colours without its yellow, which is too light for a line on white."""

SEEDS: tuple[Series, ...] = tuple(look for look in SERIES if look.colour != "#000000")
"""Looks of dense seeds: black is their mean's."""
MANY_SEEDS = Series("#737373", "o", "-")
"""The one look of dense seeds that are more than `SEEDS`."""


def of_seed(index: int, count: int) -> Series:
    """The look of dense seed number `index` of `count`."""
    return SEEDS[index] if count <= len(SEEDS) else MANY_SEEDS


@contextmanager
def context() -> Iterator[None]:
    """The project's matplotlib settings, on top of matplotlib's defaults and undone afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` × `height` inches with constrained layout and an Agg canvas."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def blank_figure(message: str, title: str = "") -> Figure:
    """A figure that says why it is empty, so that a study with nothing to show still has its file."""
    with context():
        figure = new_figure(COLUMN_WIDTH, 1.5)
        figure.text(0.5, 0.4, fitted(message, COLUMN_WIDTH, 7.5), ha="center", va="center", color="0.35")
        heading(figure, title)
    return figure


def heading(figure: Figure, title: str) -> None:
    """Put `title` over the figure, its lines broken where the page ends; nothing without one."""
    if title:
        figure.suptitle(fitted(title, figure.get_figwidth(), 8))


def heading_height(title: str, width: float) -> float:
    """Inches that `heading` takes on a figure of `width` inches."""
    return 0.14 * (fitted(title, width, 8).count("\n") + 1) + 0.06 if title else 0.0


def fitted(text: str, width: float, size: float) -> str:
    """`text` in lines that fit `width` inches at `size` points."""
    letters = int(72 * width / (0.6 * size))
    lines = [textwrap.wrap(line, letters, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")]
    return "\n".join(part for line in lines for part in line)


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches that one line of text takes at `size` points."""
    if not text.strip():
        return 0.0
    font = FontProperties(family=_RC["font.sans-serif"], weight=weight)
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width) / 72


def nested(index: int, count: int) -> dict[str, float]:
    """Widths of line `index` of `count` in the order of drawing: where lines coincide, each shows beside the last."""
    below = count - 1 - index
    return {"linewidth": 1.0 + 0.45 * below, "markersize": 3.0 + 0.9 * below}


def alike(curves: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Names of curves, those that are equal everywhere together, in the order of the first of each."""
    groups: list[list[str]] = []
    for name, values in curves.items():
        own = np.asarray(values, dtype=float)
        for group in groups:
            if np.allclose(own, np.asarray(curves[group[0]], dtype=float), rtol=0, atol=1e-9, equal_nan=True):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def omitted(shown: int, there: int, what: str) -> str:
    """A sentence where only some of what was run is shown: ``4 of 9 densities``; empty where all are."""
    return f"{shown} of {there} {what}" if shown < there else ""


def series(index: int) -> Series:
    """The look of line number `index`; after the last one they start again."""
    return SERIES[index % len(SERIES)]


def sequential(*, light_is_low: bool) -> Colormap:
    """The map of all panels, with lightness falling or rising with the value; black is left to the lines."""
    colours = sns.color_palette("mako", as_cmap=True)(np.linspace(0.1, 1, 256))
    return ListedColormap(colours[::-1] if light_is_low else colours)


def shades(count: int) -> list[Any]:
    """`count` colours from dark to light for an ordered family of lines, none too light for white paper."""
    return list(sns.color_palette("mako", as_cmap=True)(np.linspace(0.12, 0.78, count)))


DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
"""Dashes of an ordered family of lines, whose shades alone may be hard to tell apart."""


def number(value: float) -> str:
    """`value` as short as it goes, with a typographic minus sign."""
    return f"{value:.6g}".replace("-", "−")


def spread(values: Sequence[float], count: int) -> list[float]:
    """At most `count` of `values`, evenly spread, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[index] for index in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))]


def tick_places(labels: Sequence[str], inches: float, *, upright: bool = False) -> list[int]:
    """Indices of equally spaced tick labels that are shown, so that none touches its neighbour.

    Parameters
    ----------
    labels
        All of them, at 7 pt.
    inches
        Length of the axis.
    upright
        Whether they stand one above the other.
    """
    need = 0.12 if upright else DIGIT * max(map(len, labels)) + 0.05
    step = max(1, int(np.ceil(need * len(labels) / inches - 1e-9)))
    return list(range(0, len(labels), step))


def load_axis(axes: Axes, load: Load, values: Sequence[float], inches: float) -> None:
    """Equally spaced loads on an x axis of about so many inches (position = index), as in the phase diagram."""
    labels = [load.text(value) for value in values]
    places = tick_places(labels, inches)
    axes.set_xticks(places, [labels[place] for place in places])
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_xlabel(load.label)
