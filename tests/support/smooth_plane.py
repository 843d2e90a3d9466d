"""Tables of a synthetic study with three smooth regimes, and helpers that inspect figures drawn from them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from three_regime.analysis import algorithms, regimes, seed_means
from three_regime.config.knobs import KNOBS
from three_regime.config.thresholds import Thresholds

EPOCHS = KNOBS["epochs"]
DENSITIES = (0.05, 0.06, 0.08, 0.125, 0.4, 0.8)
THRESHOLDS = Thresholds(lmc=-0.12, cka=0.97)
MEASURED = ["test_error", "lmc", "lmc_nll", "lmc_test", "cka_logits", "cka_softmax"]


def cells(
    knob: str = "epochs",
    temperatures: Sequence[float] = tuple(range(20, 180, 20)),
    densities: Sequence[float] = DENSITIES,
    seeds: Sequence[int] = (1, 2, 3),
) -> pd.DataFrame:
    """A smooth three-regime plane: poorly connected when cold and sparse, similar when cold and dense."""
    order = KNOBS[knob].hot_first(list(temperatures))
    rows = []
    for seed in seeds:
        for row, temperature in enumerate(order):
            cold = (row + 0.5) / len(order)
            for density in densities:
                dense = np.log(density / 0.05) / np.log(16)
                lmc = -0.65 / (1 + np.exp(-(cold - 0.4 - 1.2 * dense) * 15)) - 0.002 * seed
                similar = 0.9 + 0.06 * dense + 0.03 * cold + 0.0004 * seed
                error = 0.15 - 0.07 * dense + 0.02 * (1 - cold) ** 2 - 0.05 * min(lmc, 0) + 0.0005 * seed
                rows.append(
                    {
                        "study": "smooth",
                        "dataset": "digits",
                        "model": "small",
                        "knob": knob,
                        "dense_seed": seed,
                        "temperature": temperature,
                        "density": density,
                        "dense_test_error": 0.1 - 0.02 * cold,
                        "dense_train_error": 0.01,
                        "test_error": error,
                        "test_error_sd": 0.001,
                        "replicas": 3,
                        "pairs": 3,
                        "origin": "computed",
                        "lmc": lmc,
                        "lmc_sd": 0.01,
                        "lmc_nll": 3 * lmc,
                        "lmc_test": lmc,
                        "cka_logits": similar,
                        "cka_softmax": similar,
                        "cka_softmax_sd": 0.001,
                    }
                )
    return pd.DataFrame(rows)


def tables(of: pd.DataFrame) -> dict[str, pd.DataFrame]:
    grid = seed_means.grid(of)
    return {
        "grid": grid,
        "regimes": regimes.label(grid, THRESHOLDS),
        "boundaries": regimes.boundaries(grid, THRESHOLDS),
        "selection": algorithms.evaluate(grid, THRESHOLDS),
    }


def run_tables() -> dict[str, pd.DataFrame]:
    """lines, curves and sparsity of two dense seeds, three temperatures and two densities."""
    lines, curves, sparsity = [], [], []
    for seed in (1, 2):
        for temperature in (10, 80, 160):
            for density in (0.05, 0.8):
                for pair, lift in (("1-2", 0.3), ("1-3", 0.1)):
                    for t in np.linspace(0, 1, 11):
                        error = 0.02 + lift * t * (1 - t) * temperature / 160
                        lines.append((seed, temperature, density, pair, t, error, 2 * error, error, 2 * error))
                for layer, total in (("conv1.weight", 432), ("layer1.0.conv1.weight", 2304)):
                    sparsity.append((seed, temperature, density, layer, round(density * total), total))
                for epoch in (1, 2, 3, 4):
                    rate = 0.1 if epoch < 3 else 0.01
                    curves.append(("retrain", seed, temperature, density, 1, epoch, 1 / epoch, 0.3, 0.4 / epoch, rate))
        for epoch in (1, 2, 3, 4):
            curves.append(("dense", seed, 160, None, None, epoch, 1 / epoch, 0.3, 0.4 / epoch + 0.01 * seed, 0.1))
    cell = ["dense_seed", "temperature", "density"]
    measures = ["train_error", "train_nll", "test_error", "test_nll"]
    history = ["replica", "epoch", "train_loss", "train_error", "test_error", "learning_rate"]
    return {
        "lines": pd.DataFrame(lines, columns=[*cell, "pair", "t", *measures]),
        "curves": pd.DataFrame(curves, columns=["stage", *cell, *history]),
        "sparsity": pd.DataFrame(sparsity, columns=[*cell, "layer", "kept", "total"]),
    }


def panels_of(figure: Figure) -> list[Axes]:
    """Axes that hold a matrix of cells, from left to right; the colour bars hold one too, but no tick per density."""
    return [axes for axes in figure.axes if axes.get_xlabel() == "density (%)"]


def ticks(axis: Axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def with_id(axes: Axes, gid: str) -> list:
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def _within(axis: Axis, label: Text) -> bool:
    """Whether a tick label is drawn: matplotlib keeps some beyond the ends of the axis."""
    low, high = sorted(axis.get_view_interval())
    return low <= label.get_position()[axis.axis_name == "y"] <= high


def touching(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of tick labels of the whole figure that touch."""
    figure.draw_without_rendering()
    shown = [
        (label.get_text(), label.get_window_extent())
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels()
        if label.get_text() and label.get_visible() and _within(axis, label)
    ]
    return [(one, two) for (one, a), (two, b) in itertools.combinations(shown, 2) if a.overlaps(b)]
