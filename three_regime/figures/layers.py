"""Where pruning takes its weights: sparsity layer by layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from three_regime.config.loads import DENSITY
from three_regime.figures import style
from three_regime.figures.cells import require


def kept_table(sparsity: pd.DataFrame) -> pd.DataFrame:
    """Share of weights kept by density and layer, over dense seeds and temperatures; layers in file order.

    Returns
    -------
    DataFrame
        ``density``, ``layer``, ``kept`` (mean), ``lowest``, ``highest`` (fractions), ``total`` (weights in the layer).

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    require(sparsity, ("density", "layer", "kept", "total"), "sparsity.csv")
    shares = sparsity.assign(share=sparsity["kept"] / sparsity["total"])
    groups = shares.groupby(["density", "layer"], sort=False, as_index=False)
    return groups.agg(
        kept=("share", "mean"), lowest=("share", "min"), highest=("share", "max"), total=("total", "first")
    )


def sparsity_per_layer(sparsity: pd.DataFrame, title: str = "") -> Figure:
    """Share of weights kept in every prunable layer, one line a density, above the sizes of the layers.

    Lines are means over dense seeds and temperatures, bands their range.

    Parameters
    ----------
    sparsity
        sparsity.csv of one study, its layers in the order of the network.
    title
        Heading; empty for none.

    Raises
    ------
    UserError
        When the table lacks a column.
    """
    table = kept_table(sparsity)
    if table.empty:
        return style.blank_figure("nothing has been pruned", title)
    layers = list(dict.fromkeys(table["layer"]))
    densities = sorted(table["density"].unique())
    places = range(len(layers))
    with style.context():
        figure = style.new_figure(style.TEXT_WIDTH, 3.6 + style.heading_height(title, style.TEXT_WIDTH))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        kept = style.tick_places(layers, 6.0, upright=True)
        for index, (density, colour) in enumerate(zip(densities, style.shades(len(densities)), strict=True)):
            rows = table[table["density"] == density].set_index("layer").reindex(layers)
            dash = style.DASHES[index % len(style.DASHES)]
            upper.fill_between(places, 100 * rows["lowest"], 100 * rows["highest"], color=colour, alpha=0.2)
            label = DENSITY.text(density)
            upper.plot(places, 100 * rows["kept"], color=colour, linestyle=dash, marker=".", label=label)
        handles, labels = upper.get_legend_handles_labels()
        upper.legend(
            handles[::-1],
            labels[::-1],
            title=DENSITY.label,
            title_fontsize=7,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
        )
        upper.set_ylabel("weights kept (%)")
        lower.bar(places, table.drop_duplicates("layer")["total"], color="0.55", width=0.7)
        lower.set_ylabel("weights")
        for axes, subs in ((upper, (1, 2, 5)), (lower, (1,))):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.grid(axis="y")
        upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        lower.set_xticks(kept, [layers[place].removesuffix(".weight") for place in kept], rotation=90)
        lower.set_xlim(-0.7, len(layers) - 0.3)
        said = style.omitted(len(kept), len(layers), "layers named")
        lower.set_xlabel("layer, from input to output" + (f" ({said})" if said else ""))
        style.heading(figure, title)
    return figure
