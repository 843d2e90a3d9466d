"""The three regimes: LMC and CKA thresholds that separate them, labels with a confidence, and boundary curves.

Regime I: poorly connected (LMC below its threshold). Regime II-A: connected, outputs dissimilar (CKA below its
threshold). Regime II-B: connected, outputs similar. The paper draws its boundaries by hand; here the LMC threshold is
fitted to them by balanced accuracy, and everything else is computed.

A cell whose networks perform at chance level has no regime: networks with a constant output have no barrier between
them and similar outputs, without being in Regime II-B (`at_chance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from three_regime.analysis import figure2, seed_means
from three_regime.config.knobs import KNOBS
from three_regime.config.loads import load_of
from three_regime.config.thresholds import Thresholds
from three_regime.datasets.registry import chance_error

REGIMES = ("I", "II-A", "II-B")
CHANCE = "chance"
"""Value of ``regime`` in ``regimes.csv`` for a cell at chance level."""

LMC_MARGIN = 0.02
CKA_MARGIN = 0.001
"""Distance from the threshold at which a value without a standard error counts as decided (this project's choice:
about half the range of LMC thresholds that fit the drawn Regime I well, and two digitising levels of CKA)."""

CHANCE_MARGIN = 0.01
"""Distance below chance error (a fraction) within which a test error without a standard error counts as chance (this
project's choice: one percentage point, or one BLEU point)."""

SENSITIVITY_RANGE = tuple(float(value) for value in np.round(np.arange(-60, 0) * 0.005, 3))
"""LMC thresholds −0.300, −0.295 … −0.005."""


def label(grid: pd.DataFrame, thresholds: Thresholds, *, cka: str = "cka_softmax", level: float = 0.95) -> pd.DataFrame:
    """Label every cell of a grid with its regime and a confidence (``regimes.csv``).

    Parameters
    ----------
    grid
        Table of `seed_means.grid`.
    cka
        CKA column that separates II-A from II-B: ``cka_softmax`` or ``cka_logits``.
    level
        Confidence at which a label counts as decided.

    Returns
    -------
    DataFrame
        ``study``, ``knob``, ``temperature``, ``density``, ``lmc``, the CKA column, ``regime`` ("I", "II-A", "II-B",
        "chance" for a cell `at_chance`, or missing where LMC, or CKA of a connected cell, is missing), ``decided``,
        ``confidence`` and ``one_seed``. The confidence is the probability, under Student's t with the pooled standard
        error, that the mean is on the labelled side of the threshold; for a connected cell the smaller of the two
        (LMC and CKA). Where no cell of a density has a standard error (one dense seed) the confidence is NaN, and the
        label is decided when each relevant value is at least `LMC_MARGIN` or `CKA_MARGIN` from its threshold. A cell
        with one seed at a density where others have more is not decided, nor is a cell at chance, which has no
        confidence. ``one_seed`` is the dense seed that dominates the spread of LMC, or of CKA in
        a connected cell (`seed_means.dominant_seed`); the mean of such a cell is unreliable.
    """
    table = grid[[*seed_means.KEYS, load_of(grid).column, "lmc", cka]].copy()
    # 1. The label: connectivity first, then similarity; a network at chance has no regime.
    poor = grid["lmc"] < thresholds.lmc
    similar = grid[cka] >= thresholds.cka
    chance = at_chance(grid, level=level)
    known = grid["lmc"].notna() & (poor | grid[cka].notna()) & ~chance
    table["regime"] = pd.Series(np.select([poor, similar], ["I", "II-B"], "II-A"), grid.index).where(known)
    table.loc[chance, "regime"] = CHANCE
    # 2. Its confidence; in Regime I only LMC matters.
    lmc_confidence = _confidence(grid, "lmc", thresholds.lmc)
    cka_confidence = _confidence(grid, cka, thresholds.cka).mask(poor, 1.0)
    confidence = np.minimum(lmc_confidence, cka_confidence).where(known)
    # 3. Whether it is decided: by the confidence or, in a column of single seeds, by the distance from the threshold.
    far = ((grid["lmc"] - thresholds.lmc).abs() >= LMC_MARGIN) & (
        poor | ((grid[cka] - thresholds.cka).abs() >= CKA_MARGIN)
    )
    far &= of_single_seeds(grid)
    table["decided"] = known & (confidence >= level).where(confidence.notna(), far)
    table["confidence"] = confidence
    of_cka = grid[f"{cka}_one_seed"].mask(poor)
    table["one_seed"] = grid["lmc_one_seed"].fillna(of_cka).where(known)
    return table


def of_single_seeds(grid: pd.DataFrame) -> pd.Series:
    """Cells at densities where no LMC has a standard error, because there is one dense seed."""
    known = grid["lmc_se"].notna()
    return ~known.groupby([grid["study"], grid[load_of(grid).column]]).transform("any")


def at_chance(grid: pd.DataFrame, *, level: float = 0.95) -> pd.Series:
    """Cells whose mean test error is not significantly below chance.

    Chance is the error of the best constant prediction: 1 - 1/classes, or less if the test classes are unbalanced; for
    translation it is BLEU 0, though a network that gives one sentence for every source scores a few points. A cell is
    better than chance when the one-sided upper bound of its mean error (Student's t with the standard error pooled
    within its density, confidence `level`) is below it; without a standard error (one dense seed), when the mean is
    more than `CHANCE_MARGIN` below. It is also better when each of its dense seeds is more than `CHANCE_MARGIN` below:
    a collapsed cell makes the pooled standard error large for all temperatures. Cells without a test error, and those
    of data sets that are not registered, are never at chance.

    Returns
    -------
    Series
        Boolean, with the index of `grid`.
    """
    chance = grid["dataset"].map(chance_error).astype(float)
    freedom = (grid["test_error_seeds"] - 1).where(grid["test_error_seeds"] >= 2)
    bound = grid["test_error_se"] * stats.t.ppf(level, freedom)
    collapsed = grid["test_error_highest"] >= chance - CHANCE_MARGIN - 1e-9
    return collapsed & (grid["test_error"] + bound.fillna(CHANCE_MARGIN) >= chance - 1e-9)


def drawn_labels(published: pd.DataFrame | None = None, boundaries: pd.DataFrame | None = None) -> pd.DataFrame:
    """Regime of each published cell according to the lines drawn in Figure 2.

    Returns
    -------
    DataFrame
        ``temperature`` (epochs), ``density``, ``regime``; 144 rows (36 I, 74 II-A, 34 II-B).
    """
    published = figure2.load() if published is None else published
    boundaries = figure2.drawn_boundaries() if boundaries is None else boundaries
    table = published[["temperature", "density"]].drop_duplicates(ignore_index=True)
    table = table.merge(boundaries, on="density", how="left")
    poor = table["temperature"] > table["regime_one_above"]
    similar = table["temperature"] > table["similar_above"]
    table["regime"] = np.select([poor, similar], ["I", "II-B"], "II-A")
    return table[["temperature", "density", "regime"]]


def agreement(predicted: Sequence[bool] | np.ndarray, truth: Sequence[bool] | np.ndarray) -> float:
    """Fraction of equal entries (accuracy); NaN if empty."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    return float((predicted == truth).mean()) if truth.size else float("nan")


def balanced_accuracy(predicted: Sequence | np.ndarray, truth: Sequence | np.ndarray) -> float:
    """Recall averaged over the classes that occur in `truth`; NaN if empty."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    recalls = [(predicted[truth == value] == value).mean() for value in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else float("nan")


def majority_share(truth: Sequence | np.ndarray) -> float:
    """Accuracy of always predicting the most frequent class; NaN if empty."""
    truth = np.asarray(truth)
    return float(np.unique(truth, return_counts=True)[1].max() / truth.size) if truth.size else float("nan")


@dataclass(frozen=True)
class ThresholdFit:
    """A threshold fitted by balanced accuracy.

    Every threshold in (`lower`, `upper`], the plateau, separates equally well; `threshold` is its midpoint. `cells` is
    the number of cells used, `majority` the accuracy of always predicting the more frequent class.
    """

    lower: float
    upper: float
    threshold: float
    agreement: float
    balanced_accuracy: float
    majority: float
    cells: int


def fit_lmc_threshold(grid: pd.DataFrame, drawn: pd.DataFrame) -> ThresholdFit:
    """Fit the LMC threshold: Regime I (LMC below it) against II, on cells with a drawn label.

    Raises
    ------
    ValueError
        When fewer than two cells match, or only one class occurs.
    """
    labelled = _labelled(grid, drawn, "lmc")
    return _fit(labelled["lmc"].to_numpy(), (labelled["regime"] == "I").to_numpy())


def fit_cka_threshold(
    grid: pd.DataFrame, drawn: pd.DataFrame, lmc_threshold: float, *, cka: str = "cka_softmax"
) -> ThresholdFit:
    """Fit the CKA threshold: II-A (CKA below it) against II-B, on cells with LMC ≥ threshold and not drawn as Regime I.

    On Figure 2 the fit is little better than the majority class: the drawn line barely follows CKA.

    Raises
    ------
    ValueError
        As `fit_lmc_threshold`.
    """
    labelled = _labelled(grid, drawn, cka)
    labelled = labelled[(labelled["lmc"] >= lmc_threshold) & (labelled["regime"] != "I")]
    return _fit(labelled[cka].to_numpy(), (labelled["regime"] == "II-A").to_numpy())


def sensitivity(
    grid: pd.DataFrame, drawn: pd.DataFrame, thresholds: Sequence[float] = SENSITIVITY_RANGE
) -> pd.DataFrame:
    """Agreement and balanced accuracy of Regime I against II at each LMC threshold.

    Returns
    -------
    DataFrame
        ``threshold``, ``agreement``, ``balanced_accuracy``, ``cells``; NaN and 0 if no cell has a drawn label.
    """
    labelled = _labelled(grid, drawn, "lmc")
    truth = (labelled["regime"] == "I").to_numpy()
    lmc = labelled["lmc"].to_numpy()
    return pd.DataFrame(
        {
            "threshold": list(thresholds),
            "agreement": [agreement(lmc < threshold, truth) for threshold in thresholds],
            "balanced_accuracy": [balanced_accuracy(lmc < threshold, truth) for threshold in thresholds],
            "cells": len(labelled),
        }
    )


def boundary(grid: pd.DataFrame, column: str, threshold: float) -> pd.DataFrame:
    """Temperatures at which `column` crosses `threshold`, for each density of one study.

    Temperatures are ordered from hot to cold. Between neighbours on opposite sides of the threshold, the crossing is
    interpolated linearly. No crossing is reported across a missing cell.

    Returns
    -------
    DataFrame
        ``density``, ``crossing`` (0, 1, … from hot to cold), ``temperature_index`` (fractional position in the order,
        0 = hottest) and ``temperature`` there; no row for a density without a crossing.

    Raises
    ------
    ValueError
        When `grid` holds more than one study.
    """
    rows = []
    table = _temperatures_by_density(grid, column)
    temperatures = table.index.to_numpy(float)
    for density in table.columns:
        values = table[density].to_numpy(float)
        with np.errstate(invalid="ignore"):
            below = values < threshold
        neighbours = np.isfinite(values[:-1]) & np.isfinite(values[1:]) & (below[:-1] != below[1:])
        for crossing, left in enumerate(np.flatnonzero(neighbours)):
            share = (threshold - values[left]) / (values[left + 1] - values[left])
            place = temperatures[left] + share * (temperatures[left + 1] - temperatures[left])
            rows.append((float(density), crossing, left + share, place))
    return pd.DataFrame(rows, columns=[load_of(grid).column, *_CROSSING])


def boundaries(grid: pd.DataFrame, thresholds: Thresholds, *, cka: str = "cka_softmax") -> pd.DataFrame:
    """Both boundary curves of one study (``boundaries.csv``).

    Returns
    -------
    DataFrame
        As `boundary`, with ``boundary`` ("lmc": Regime I; "cka": II-A / II-B, among connected cells) and ``threshold``.
        Cells at chance have no regime and are treated as missing.
    """
    grid = grid.assign(lmc=grid["lmc"].mask(at_chance(grid)))
    connected = grid.assign(**{cka: grid[cka].where(grid["lmc"] >= thresholds.lmc)})
    lines = (
        ("lmc", thresholds.lmc, boundary(grid, "lmc", thresholds.lmc)),
        ("cka", thresholds.cka, boundary(connected, cka, thresholds.cka)),
    )
    tables = [table.assign(boundary=name, threshold=threshold) for name, threshold, table in lines if len(table)]
    columns = ["boundary", "threshold", load_of(grid).column, *_CROSSING]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


_CROSSING = ["crossing", "temperature_index", "temperature"]


def _temperatures_by_density(grid: pd.DataFrame, column: str) -> pd.DataFrame:
    """Pivot `column` of one study: temperatures (hot first) × densities (or other loads)."""
    if grid["study"].nunique() > 1 or grid["knob"].nunique() > 1:
        raise ValueError("temperatures of several studies have no common order; select one study first")
    if grid.empty:
        return pd.DataFrame()
    table = grid.pivot(index="temperature", columns=load_of(grid).column, values=column)
    return table.loc[KNOBS[grid["knob"].iloc[0]].hot_first(list(table.index))]


def _confidence(grid: pd.DataFrame, metric: str, threshold: float) -> pd.Series:
    distance = (grid[metric] - threshold).abs()
    se = grid[f"{metric}_se"]
    freedom = (grid[f"{metric}_seeds"] - 1).where(grid[f"{metric}_seeds"] >= 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (distance / se).mask((se == 0) & (distance == 0), 0.0)
    return pd.Series(stats.t.cdf(ratio, freedom), grid.index)


def _labelled(grid: pd.DataFrame, drawn: pd.DataFrame, column: str) -> pd.DataFrame:
    keys = ["temperature", "density"]
    columns = list(dict.fromkeys([*keys, "lmc", column]))
    return grid[columns].merge(drawn[[*keys, "regime"]], on=keys).dropna(subset=["lmc", column])


def _fit(values: np.ndarray, below: np.ndarray) -> ThresholdFit:
    """Threshold for which ``values < threshold`` best predicts `below`; of equally good plateaus, the widest."""
    if len(values) < 2 or below.all() or not below.any():
        raise ValueError("a threshold needs cells of both classes")
    levels = np.unique(values)
    scores = np.array([balanced_accuracy(values < upper, below) for upper in levels[1:]])
    if not scores.size:
        raise ValueError("a threshold needs at least two different values")
    best = np.flatnonzero(scores == scores.max())
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    run = max(runs, key=lambda places: levels[places[-1] + 1] - levels[places[0]])
    lower, upper = float(levels[run[0]]), float(levels[run[-1] + 1])
    threshold = (lower + upper) / 2
    predicted = values < threshold
    return ThresholdFit(
        lower=lower,
        upper=upper,
        threshold=threshold,
        agreement=agreement(predicted, below),
        balanced_accuracy=balanced_accuracy(predicted, below),
        majority=majority_share(below),
        cells=len(values),
    )
