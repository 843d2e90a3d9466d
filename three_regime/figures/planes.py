"""Maps of the error on the plane through three replicas."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from three_regime.config.knobs import Knob
from three_regime.config.loads import DENSITY
from three_regime.figures import style
from three_regime.figures.cells import require

CHOSEN = 4
"""Most temperatures and densities shown, evenly spread over what was run."""

_LEVELS = 12


def shown(planes: pd.DataFrame, knob: Knob) -> pd.DataFrame:
    """The rows of planes.csv that `plane_maps` draws: some temperatures and densities of the first dense seed.

    Raises
    ------
    UserError
        When a column is missing.
    """
    require(planes, ("dense_seed", "temperature", "density", "a", "b", "x", "y", "train_error"), "planes.csv")
    rows = style.spread(knob.hot_first([float(value) for value in planes["temperature"].unique()]), CHOSEN)
    columns = style.spread(sorted(float(value) for value in planes["density"].unique()), CHOSEN)
    seed = planes["dense_seed"].min()
    chosen = planes["temperature"].isin(rows) & planes["density"].isin(columns) & (planes["dense_seed"] == seed)
    return planes[chosen].reset_index(drop=True)


def plane_maps(planes: pd.DataFrame, knob: Knob, title: str = "") -> Figure:
    """Training error on the plane through three replicas, one panel a cell: hot to cold down, densities across.

    Dots are the replicas. Axes are Euclidean distances between weights, equal in both directions; panels share axes and
    colours.

    Parameters
    ----------
    planes
        planes.csv of one study: errors are fractions.
    knob
        What sets the temperature.
    title
        Heading; empty for none.

    Raises
    ------
    UserError
        When a column is missing.
    """
    table = shown(planes, knob)
    if table.empty:
        return style.blank_figure("no plane through three replicas has been measured", title)
    rows = knob.hot_first([float(value) for value in table["temperature"].unique()])
    columns = sorted(float(value) for value in table["density"].unique())
    low, high = 100 * table["train_error"].min(), 100 * table["train_error"].max()
    scale = Normalize(low, high if high > low else low + 1)
    colours = style.sequential(light_is_low=True)
    with style.context():
        width = max(style.COLUMN_WIDTH, 1.2 + 1.5 * len(columns))
        sides = {name: float(np.ptp(table[name])) or 1.0 for name in ("x", "y")}
        panel_height = 0.15 + 1.4 * min(1.0, sides["y"] / sides["x"])
        figure = style.new_figure(width, panel_height * len(rows) + 1.1 + style.heading_height(title, width))
        panels = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
        for name, side in sides.items():
            limits = table[name].min() - 0.04 * side, table[name].max() + 0.04 * side
            panels[0, 0].set(**{f"{name}lim": limits})
        for row, temperature in zip(panels, rows, strict=True):
            for axes, density in zip(row, columns, strict=True):
                cell = table[(table["temperature"] == temperature) & (table["density"] == density)]
                _draw(axes, cell, scale, colours)
            where = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
            row[-1].annotate(style.number(temperature), (1, 0.5), (6, 0), fontsize=8, **where)
        for axes, density in zip(panels[0], columns, strict=True):
            axes.set_title(f"density {DENSITY.text(density)} %")
        mapped = mpl.cm.ScalarMappable(scale, colours)
        figure.colorbar(mapped, ax=list(panels.ravel()), label="training error (%)", shrink=0.8)
        seed = int(table["dense_seed"].iloc[0])
        order = f"rows: {knob.label} (number at the right), the hottest on top"
        said = filter(
            None,
            (
                style.omitted(len(rows), planes["temperature"].nunique(), "temperatures"),
                style.omitted(len(columns), planes["density"].nunique(), "densities"),
            ),
        )
        below = ["distance of weights", order, "; ".join([f"dense seed {seed}", *said])]
        figure.supxlabel(style.fitted("\n".join(below), width, 7.5), fontsize=7.5)
        style.heading(figure, title)
    return figure


def _draw(axes: Axes, cell: pd.DataFrame, scale: Normalize, colours: mpl.colors.Colormap) -> None:
    axes.set_aspect("equal")
    axes.tick_params(labelsize=6)
    if cell.empty or np.ptp(cell["y"]) == 0 or np.ptp(cell["x"]) == 0:
        why = "not run" if cell.empty else "no plane"
        axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color="0.4")
        return
    levels = np.linspace(scale.vmin, scale.vmax, _LEVELS)
    axes.tricontourf(cell["x"], cell["y"], 100 * cell["train_error"], levels, cmap=colours, norm=scale, extend="both")
    whole = cell["a"].round(9).isin([0, 1]) & cell["b"].round(9).isin([0, 1]) & (cell["a"] + cell["b"] < 1.5)
    look = {"color": "white", "markeredgecolor": "black", "markersize": 3.5, "zorder": 3, "clip_on": False}
    axes.plot(cell.loc[whole, "x"], cell.loc[whole, "y"], "o", **look)
