"""How much the LMC threshold matters."""

from __future__ import annotations

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
    with style.context():
        figure = style.new_figure(style.COLUMN_WIDTH + 1.4, 1.5 * len(shown) + (0.75 if title else 0.55))
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, lines) in zip(panels, shown, strict=True):
            for column, (name, look) in lines.items():
                keywords = look.keywords | {"markersize": 3, "markevery": max(1, len(table) // 12)}
                axes.plot(table["threshold"], 100 * table[column], label=name, **keywords)
            axes.axvline(threshold, color="0.45", linewidth=0.8, zorder=0)
            axes.set_ylabel(label)
            axes.grid(axis="y")
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        whose = f" (set for {inherited})" if inherited else ""
        panels[0].set_title(f"vertical line: threshold in use, {style.number(threshold)}{whose}", fontsize=7.5)
        panels[-1].set_xlabel("LMC threshold of Regime I (fraction)")
        if title:
            figure.suptitle(title)
    return figure
