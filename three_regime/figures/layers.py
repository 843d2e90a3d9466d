"""Sparsity layer by layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from three_regime.figures import style
from three_regime.figures.cells import require

CURVES = 5


def kept_table(sparsity: pd.DataFrame) -> pd.DataFrame:
    """Fraction kept in each layer at each density, mean over dense seeds and temperatures; layers in file order."""
    order = {layer: place for place, layer in enumerate(dict.fromkeys(sparsity["layer"]))}
    table = sparsity.assign(kept_fraction=sparsity["kept"] / sparsity["total"])
    table = table.groupby(["density", "layer"], as_index=False).agg(
        kept_fraction=("kept_fraction", "mean"), total=("total", "first")
    )
    return table.sort_values(
        ["density", "layer"], key=lambda column: column.map(order) if column.name == "layer" else column
    )


def sparsity_per_layer(sparsity: pd.DataFrame) -> Figure:
    """Fraction of weights kept in each prunable layer, for densities spread over the grid (logarithmic axis).

    Parameters
    ----------
    sparsity
        sparsity.csv of one study.

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    require(sparsity, ["density", "layer", "kept", "total"], "sparsity")
    table = kept_table(sparsity)
    layers = list(dict.fromkeys(table["layer"]))
    densities = style.spread(sorted(set(table["density"])), CURVES)
    with style.context():
        figure = style.new_figure(style.TEXT_WIDTH, 2.9)
        axes = figure.subplots()
        for index, density in enumerate(densities):
            part = table[table["density"] == density].set_index("layer").reindex(layers)
            axes.plot(range(len(layers)), part["kept_fraction"], label=f"{style.percent(density)} %",
                      **style.series(index).keywords)  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.set_ylabel("weights kept")
        names = [layer.removesuffix(".weight") for layer in layers]
        axes.set_xticks(range(len(layers)), names, rotation=90)
        axes.grid(axis="y")
        figure.legend(loc="outside right upper", title="density", title_fontsize=7)
    return figure
