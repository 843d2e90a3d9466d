"""How much the LMC threshold matters."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from three_regime.figures import style
from three_regime.figures.cells import require

AGREEMENT = {
    "agreement": ("agreement", style.SERIES[3]),
    "balanced_accuracy": ("balanced accuracy", style.SERIES[5]),
}
REGRETS = {
    "algorithm_1_cold": ("Algorithm 1, coldest start", style.SERIES[0]),
    "algorithm_1_hot": ("Algorithm 1, hottest start", style.SERIES[6]),
    "algorithm_1_all": ("Algorithm 1, mean of starts", style.SERIES[2]),
    "algorithm_2": ("Algorithm 2", style.SERIES[4]),
    "algorithm_2_1": ("Algorithm 2.1", style.SERIES[1]),
}
"""Columns of sensitivity.csv with their names and looks."""

_PANELS = (("cells labelled as\ndrawn by hand (%)", AGREEMENT), ("mean regret\n(percentage points)", REGRETS))


def threshold_sensitivity(sensitivity: pd.DataFrame, threshold: float, title: str = "", inherited: str = "") -> Figure:
    """Mean regret at each LMC threshold and, where regimes were drawn by hand, agreement with them.

    Curves that are equal at every threshold are one curve with all their names. A panel whose curves are all level is
    left out, and a line says so.

    Parameters
    ----------
    sensitivity
        sensitivity.csv of one study; every share and regret is a fraction. Columns that are empty are not drawn.
    threshold
        The threshold in use, marked by a vertical line.
    title
        Heading; empty for none.
    inherited
        Data set that the threshold was set for, where it is another.

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    require(sensitivity, ("threshold", *AGREEMENT), "sensitivity.csv")
    table = sensitivity.sort_values("threshold")
    filled = {str(column) for column in table if table[column].notna().any()}
    shown = [(label, {key: look for key, look in lines.items() if key in filled}) for label, lines in _PANELS]
    shown = [(label, lines) for label, lines in shown if lines]
    if not shown:
        return style.blank_figure("no cell to which a threshold applies", title)
    level = [label for label, lines in shown if (np.ptp(table[list(lines)], axis=0) < 1e-12).all()]
    said = [f"{' '.join(label.split())}: the same at every threshold" for label in level]
    shown = [(label, lines) for label, lines in shown if label not in level]
    if not shown:
        return style.blank_figure("\n".join(said), title)
    with style.context():
        width = style.COLUMN_WIDTH + 1.6
        height = 1.5 * len(shown) + 0.55 + 0.12 * len(said) + style.heading_height(title, width)
        figure = style.new_figure(width, height)
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, lines) in zip(panels, shown, strict=True):
            groups = style.alike({column: table[column] for column in lines})
            for index, columns in enumerate(groups):
                look = lines[columns[0]][1].keywords | style.nested(index, len(groups))
                name = "\n= ".join(lines[column][0] for column in columns)
                # Between two thresholds tried a value changes at one cell's LMC, not gradually.
                steps = {"drawstyle": "steps-mid", "markevery": max(1, len(table) // 12)}
                axes.plot(table["threshold"], 100 * table[columns[0]], label=name, **steps, **look)
            axes.axvline(threshold, color="0.45", linewidth=0.8, zorder=0)
            axes.set_ylabel(label)
            axes.grid(axis="y")
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        whose = f" (set for {inherited})" if inherited else ""
        in_use = f"vertical line: threshold in use, {style.number(threshold)}{whose}"
        panels[0].set_title("\n".join([*said, in_use]), fontsize=7.5)
        panels[-1].set_xlabel("LMC threshold of Regime I (fraction)")
        style.heading(figure, title)
    return figure
