"""Phase diagrams: measures over the temperature × density plane with the computed regime borders (paper, Figure 2)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from three_regime.config.knobs import Knob
from three_regime.config.loads import load_of
from three_regime.config.thresholds import Thresholds
from three_regime.figures import phase_panel, style
from three_regime.figures.cells import require
from three_regime.figures.panels import FIGURE_2, PANELS, panel_of
from three_regime.figures.phase_legend import Legend
from three_regime.figures.phase_scene import Scene


def phase_diagram(
    grid: pd.DataFrame, regimes: pd.DataFrame, knob: Knob, thresholds: Thresholds, title: str = ""
) -> Figure:
    """Four panels, two by two: test error, normalised test error, LMC and CKA (paper, Figure 2).

    Densities (of prunable weights; or other loads) increase to the right as equal columns; temperatures fall from top
    to bottom. All panels carry the same borders along the edges of cells (solid: Regime I, by LMC; dashed: II-A / II-B,
    by CKA), region names, a dot in every cell whose regime is decided, plain grey where networks answer at chance, and
    grey hatching where a cell was not run. A corner is filled where one dense seed dominates the spread of the panel's
    measure. Where cells are large enough their values are printed in them, unless rounding puts one on the other side
    of its threshold. A panel that says nothing, because it was not measured or is the same in every cell, is left out,
    and a line below says so. Colours span four standard errors at least, and those of LMC without a cell in Regime I
    run from the threshold to 0, so that noise does not look like a difference.

    Parameters
    ----------
    grid
        grid.csv of one study; errors are fractions. Cells not run are absent or NaN.
    regimes
        regimes.csv of the same study.
    knob
        What sets the temperature.
    thresholds
        Those of regimes.csv, named in the legend beside their borders.
    title
        Heading; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        ``style.SCREEN_WIDTH`` wide (one panel: ``style.COLUMN_WIDTH``); every letter is at least 7 pt at that size.

    Raises
    ------
    UserError
        When a table lacks a column or holds several studies.
    """
    with style.context():
        scene = Scene.of(grid, regimes, knob, thresholds, 1.86)
        shown, said = _informative_panels(scene)
        rows = -(-len(shown) // 2)
        width = style.SCREEN_WIDTH if len(shown) > 1 else style.COLUMN_WIDTH
        legend = Legend.of(scene, shown, said, 2, width)
        height = rows * (scene.height + 0.92) + legend.height + style.heading_height(title, width)
        figure = style.new_figure(width, height)
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.04, hspace=0.02)
        axes = figure.subplots(rows, min(2, len(shown)), sharey=True, squeeze=False).ravel()
        for empty in axes[len(shown) :]:
            empty.remove()
        for index, (name, one) in enumerate(zip(shown, axes, strict=False)):
            phase_panel.draw(one, scene, name, f"({'abcd'[index]}) ")
            if index % 2:
                one.set_ylabel("")
                one.tick_params(axis="y", labelleft=False)
        legend.draw(figure)
        style.heading(figure, title)
    return figure


def _informative_panels(scene: Scene) -> tuple[list[str], list[str]]:
    """The panels of Figure 2 that say something, and a sentence for each of the others."""
    shown, said = [], []
    cells = scene.plane.shape[0] * scene.plane.shape[1]
    for name in FIGURE_2:
        values = scene.values(name)
        known = values[~np.isnan(values)]
        if not len(known):
            said.append(f"{PANELS[name].name}: not measured")
        elif len(known) > 1 and np.ptp(known) < 1e-9:
            where = "in every cell" if len(known) == cells else "in every cell that was run"
            said.append(f"{PANELS[name].name}: {style.number(known[0])} {where}")
        elif name == "normalised_test_error" and cells == 1:
            said.append(f"{PANELS[name].name}: nothing to compare with")
        else:
            shown.append(name)
    return (shown, said) if shown else (list(FIGURE_2), [])


def panel_figure(
    grid: pd.DataFrame, regimes: pd.DataFrame, knob: Knob, thresholds: Thresholds, metric: str, title: str = ""
) -> Figure:
    """One panel of `phase_diagram`, one column wide.

    Parameters
    ----------
    metric
        One that `panel_of` knows; other parameters as for `phase_diagram`.

    Raises
    ------
    UserError
        As for `phase_diagram`, and when `metric` is unknown.
    """
    panel_of(metric)
    with style.context():
        scene = Scene.of(grid, regimes, knob, thresholds, 2.85)
        legend = Legend.of(scene, (metric,), [], 2, style.COLUMN_WIDTH)
        height = scene.height + 0.8 + legend.height + style.heading_height(title, style.COLUMN_WIDTH)
        figure = style.new_figure(style.COLUMN_WIDTH, height)
        phase_panel.draw(figure.subplots(), scene, metric, "")
        legend.draw(figure)
        style.heading(figure, title)
    return figure


def phase_table(grid: pd.DataFrame, regimes: pd.DataFrame) -> pd.DataFrame:
    """The cells behind a phase diagram: grid.csv with the regime, its confidence and whether it is decided."""
    keys = ["temperature", load_of(grid).column]
    names = [*keys, "regime", "decided", "confidence"]
    require(regimes, names, "regimes.csv")
    labels = regimes[names]
    if "one_seed" in regimes:
        labels = labels.assign(one_seed=regimes["one_seed"])
    return grid.merge(labels, on=keys, how="left", validate="one_to_one")
