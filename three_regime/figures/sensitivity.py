"""How much the LMC threshold matters."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from three_regime.figures import style
from three_regime.figures.cells import require

REGRETS = {
    "algorithm_1_cold": "Algorithm 1 from the coldest",
    "algorithm_1_all": "Algorithm 1, mean over starts",
    "algorithm_2": "Algorithm 2",
    "algorithm_2_1": "Algorithm 2.1",
}


def threshold_sensitivity(sensitivity: pd.DataFrame, threshold: float | None = None) -> Figure:
    """Mean regret at each LMC threshold and, where regimes were drawn by hand, agreement with them.

    Parameters
    ----------
    sensitivity
        sensitivity.csv of one study.
    threshold
        The threshold in use, marked by a vertical line.

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    require(sensitivity, ["threshold", "agreement", "balanced_accuracy", *REGRETS], "sensitivity")
    drawn = sensitivity["agreement"].notna().any()
    with style.context():
        figure = style.new_figure(style.COLUMN_WIDTH, 4.3 if drawn else 2.9)
        panels = figure.subplots(2 if drawn else 1, 1, sharex=True, squeeze=False)[:, 0]
        for index, (column, label) in enumerate(REGRETS.items()):
            look = style.series(index)
            panels[0].plot(sensitivity["threshold"], 100 * sensitivity[column], color=look.colour, linestyle=look.dash,
                           label=label)  # fmt: skip
        panels[0].set_ylabel("mean regret (percentage points)")
        panels[0].legend()
        if drawn:
            for index, (column, label) in enumerate(
                {"agreement": "agreement with the drawn Regime I", "balanced_accuracy": "balanced accuracy"}.items()
            ):
                look = style.series(index)
                panels[1].plot(sensitivity["threshold"], 100 * sensitivity[column], color=look.colour,
                               linestyle=look.dash, label=label)  # fmt: skip
            panels[1].set_ylabel("share of cells (%)")
            panels[1].legend()
        for axes in panels:
            axes.grid(axis="y")
            axes.set_ylim(bottom=axes.get_ylim()[0] if axes is not panels[0] else 0)
            if threshold is not None:
                axes.axvline(threshold, color="0.4", linewidth=0.8)
        panels[-1].set_xlabel("LMC threshold of Regime I (fraction)")
    return figure
