"""One look for every figure: sizes, fonts, colours and line styles, legible without colour.

Maps are sequential with monotone lightness (seaborn's mako; light is the good end). Lines use the Okabe–Ito
palette and differ in marker and dash as well, so that a grey print keeps them apart. Figures are made without
pyplot: nothing here leaves global state behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

TEXT_WIDTH = 7.0
"""Inches: the width of a two-column page; figures are drawn at the size at which they are printed."""
COLUMN_WIDTH = 3.35
"""Inches: one column of a two-column page."""

DENSITY = "density (%)"
"""Label of densities: of the prunable weights everywhere, as in paths and tables, never of the whole model."""

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same picture on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
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
        figure.text(0.5, 0.45, message, ha="center", va="center", color="0.35")
        if title:
            figure.suptitle(title)
    return figure


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


def percent(fraction: float) -> str:
    """A fraction as a percentage without its sign: 0.05 → ``5``, 0.125 → ``12.5``."""
    return number(round(fraction * 100, 6))


def spread(values: Sequence[float], count: int) -> list[float]:
    """At most `count` of `values`, evenly spread, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[index] for index in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))]


def density_axis(axes: Axes, densities: Sequence[float]) -> None:
    """Equally spaced densities on the x axis (position = index), as in the phase diagram."""
    axes.set_xticks(range(len(densities)), [percent(density) for density in densities])
    axes.set_xlim(-0.5, len(densities) - 0.5)
    axes.set_xlabel(DENSITY)
