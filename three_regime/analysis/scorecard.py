"""Score an obtained grid against the published Figure 2, or another reference, cell by cell and by headline numbers.

Density alone ranks the cells of Figure 2 well, so rank correlations are computed within each density. A partial grid
is scored on the cells that were run; the others are listed as not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from three_regime.analysis import figure2, own_cells, references, regimes, seed_means
from three_regime.analysis.algorithms import usual_temperature
from three_regime.analysis.references import Reference
from three_regime.config import Config
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.settings import Setting
from three_regime.study.comparison import ABSENT, differing
from three_regime.study.grid import planned, thresholds_of
from three_regime.study.outputs import FIGURE2_STUDY

DENSE_ACCURACY_WINDOW = {("cifar10", "preresnet-20", "epochs"): (160, 0.91, 0.925)}
"""(dataset, model, knob) → default temperature, and bounds of the dense network's test accuracy expected there."""

NO_PUBLISHED_NUMBERS = "no published numbers"
DEVIATION = "deviates from the published protocol"
ELSEWHERE = "cells outside the reference"
IN_EVERY_RUN = "differs in every run, or is not known"

DIFFERENCE = "mean absolute difference"
REGRET = "regret of the obtained best temperature"
"""Headline measures whose values have the unit of their panel (`amount`)."""

KEYS = ["temperature", "density"]
SPREAD = ("se", "ci95", "seeds", "of_seeds", "one_seed")
"""What a grid says of a metric beside its mean (`seed_means.grid`)."""
_HEADLINE = ["study", "measure", "panel", "value", "beside", "note"]


@dataclass(frozen=True, eq=False)
class Scorecard:
    """Result of `score`.

    Attributes
    ----------
    cells
        One row per metric and cell of the reference: ``study``, ``panel`` (obtained metric), ``temperature``,
        ``density``, ``published`` (the reference's value), ``lower``, ``upper`` (its bounds), ``obtained``, ``se``,
        ``ci95``, ``seeds``, ``of_seeds``, ``one_seed`` (its spread over dense seeds, see `seed_means.grid`),
        ``difference`` (obtained − published), ``within`` (the obtained 95 % interval overlaps the bounds; missing
        without an interval, as with one dense seed), ``status`` ("obtained", "imported" or "not run").
        Errors are fractions. The spread of the published figure over seeds is unknown and not accounted for, so some
        misses are expected. Normalised errors are compared only at densities where every temperature of the
        reference was run, since both are relative to the minimum over these temperatures.
    headline
        ``study``, ``measure``, ``panel``, ``value``, ``beside`` (text: what to compare the value with), ``note``.
    reference
        What was scored against.
    """

    cells: pd.DataFrame
    headline: pd.DataFrame
    reference: Reference


def score(
    reference: Reference,
    obtained: pd.DataFrame,
    *,
    thresholds: Thresholds | None = None,
    counterpart: str = "",
    deviating: Sequence[str] = (),
) -> Scorecard:
    """Compare an obtained grid with a reference.

    Parameters
    ----------
    obtained
        Table of `seed_means.grid` with one or more studies.
    thresholds
        Thresholds for the regime rows; default: `Thresholds()`.
    counterpart
        The study of `obtained` that repeats the reference; default: that of the same name. The scorecard notes that
        other studies have no published numbers.
    deviating
        Settings in which that study differs from the reference's protocol (`deviations`); one row each, followed by the
        differences of every run of this project.
    """
    thresholds = thresholds or Thresholds()
    counterpart = counterpart or reference.study
    same = obtained[obtained["study"] == counterpart]
    cells = compare_cells(reference, same, counterpart)
    rows: list[dict] = []
    if cells["obtained"].notna().any():
        if not (same["origin"] == own_cells.ORIGIN).all():
            rows += [_row(IN_EVERY_RUN, note=text) for text in reference.differences]
        rows += _coverage(cells, reference.word) + _elsewhere(reference, same)
        rows += _differences(cells, reference.bounds) + _rank_correlations(cells)
        rows += _which_cka(cells, reference) + _regimes(reference, same, thresholds)
        rows += _argmin_regret(cells, reference.word)
    else:
        rows.append(_row("cells obtained", value=0, beside=f"{cells.drop_duplicates(KEYS).shape[0]}"))
    rows = [_row(DEVIATION, note=text) for text in deviating] + rows
    rows = [{"study": counterpart, **row} for row in rows]
    for study, part in obtained.groupby("study", sort=False):
        if study != counterpart:
            rows.append({"study": study, **_row(NO_PUBLISHED_NUMBERS, note="nothing to score its cells against")})
        as_published = study == counterpart and not any(text.startswith(("dataset.", "dense.")) for text in deviating)
        rows += [{"study": study, **row} for row in _dense_accuracy(part, as_published)]
    return Scorecard(cells, pd.DataFrame(rows, columns=_HEADLINE), reference)


def deviations(settings: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """Settings that differ from the published protocol, one sentence each.

    Parameters
    ----------
    settings
        The resolved configuration of a study.
    protocol
        Settings of the reference (`Reference.protocol`); keys it lacks are not compared.
    """
    return [
        f"{name} is {_shown(name, ours)} instead of {_shown(name, published)}"
        for name, ours, published in differing(settings, protocol)
        if published is not ABSENT
    ]


def _shown(name: str, value: Any) -> str:
    if value not in (None, ABSENT):
        return str(value)
    return "all" if name.endswith("_images") else "none"


def of_export(
    path: Path,
    thresholds: Thresholds | None = None,
    *,
    reference: Reference | None = None,
    study: str = "",
    knob: str = "",
) -> Scorecard:
    """Score the cells in a study's folder, a results folder, another lab's unpacked export, or a table of own cells.

    If the folder or its parent holds the ``config.yaml`` of the run, settings that deviate from the reference's
    protocol are named, and the default thresholds are those configured there.

    Parameters
    ----------
    path
        A folder, its ``cells.csv``, or a table like `own_cells.template`.
    reference
        Default: the published Figure 2.
    study
        The study that is scored; default: that of the reference's name (in a table of own cells: its name).
    knob
        What the temperatures in a table of own cells are values of; default: the reference's knob.

    Raises
    ------
    UserError
        When there are no cells or not that study, or a file of an export was altered; and when cells of one's own, or
        those scored against a given reference, vary another knob than the reference.
    """
    given, reference = reference is not None, reference or references.published()
    own = own_cells.is_own(Path(path))
    cells = own_cells.read(path, reference, study=study) if own else seed_means.read_cells(path)
    if own and knob:
        cells["knob"] = knob
    obtained = seed_means.grid(cells)
    counterpart = study or reference.study
    if study and study not in set(obtained["study"]):
        raise UserError(f"{path} holds no study {study!r}, but {', '.join(sorted(set(obtained['study'])))}")
    if own or given:
        _refuse_other_knob(obtained[obtained["study"] == counterpart], reference)
    config: Mapping[str, Any] = {} if own else references.settings_beside(path)
    settings = config.get("studies", {}).get(counterpart, {})
    if thresholds is None and config:
        both = {**(config.get("regimes") or {}), **_given(settings.get("regimes") or {})}
        thresholds = Thresholds(**{key: both[key] for key in ("lmc", "cka") if key in both})
    ran = counterpart in set(obtained["study"])
    deviating = deviations(settings, reference.protocol) if ran and settings else ()
    return score(reference, obtained, thresholds=thresholds, counterpart=counterpart, deviating=deviating)


def of_run(config: Config, results: Path) -> Scorecard:
    """Score the planned studies, whose tables are in folders of their names below `results`, as `of_grids` does."""
    studies = planned(config)
    settings = {study.name: study.config.model_dump(mode="json") for study in studies}.get(FIGURE2_STUDY)
    grids = [results / study.name / "grid.csv" for study in studies]
    return of_grids(grids, thresholds_of(config, FIGURE2_STUDY), settings)


def of_grids(grids: Sequence[Path], thresholds: Thresholds, settings: Mapping[str, Any] | None = None) -> Scorecard:
    """Score the studies of a results folder against the published Figure 2.

    Parameters
    ----------
    grids
        ``grid.csv`` of every study; without any, every published cell is "not run".
    thresholds, settings
        Those of the study that repeats Figure 2, if it is run: settings that deviate from the paper's are named.
    """
    published = references.published()
    if grids:
        obtained = pd.concat([seed_means.read_grid(path) for path in grids], ignore_index=True)
    else:  # a grid without rows
        obtained = seed_means.grid(figure2.as_cells(published.cells)).iloc[:0]
    deviating = deviations(settings, published.protocol) if settings else ()
    return score(published, obtained, thresholds=thresholds, deviating=deviating)


def _refuse_other_knob(obtained: pd.DataFrame, reference: Reference) -> None:
    if other := sorted(set(obtained["knob"]) - {reference.knob}):
        raise UserError(
            f"the temperatures of {obtained['study'].iloc[0]} are values of {other[0]}, those of the reference"
            f" ({reference.study}) of {reference.knob}: name a reference of the same knob with --against"
        )


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def compare_cells(reference: Reference, obtained: pd.DataFrame, study: str) -> pd.DataFrame:
    """`Scorecard.cells`: join every cell of the reference, for every metric it has, with the grid of one study."""
    tables = []
    for metric, panel in reference.panels.items():
        table = reference.cells[reference.cells["panel"] == panel].drop(columns="panel")
        table = table.rename(columns={"value": "published"})
        table["density"] = table["density"].round(6)
        spread = {name: obtained[f"{metric}_{name}"] for name in SPREAD}
        here = obtained[[*KEYS, "origin"]].assign(obtained=obtained[metric], **spread)
        tables.append(table.merge(here, on=KEYS, how="left").assign(panel=metric))
    cells = pd.concat(tables, ignore_index=True).assign(study=study)
    cells["seeds"] = cells["seeds"].fillna(0).astype(int)
    normalised = cells["panel"] == "normalised_test_error"
    column = [cells["panel"], cells["density"]]
    whole = cells["obtained"].notna().groupby(column).transform("all")
    # A temperature that the reference lacks may be the best one: normalise by the best of the reference's.
    alike = seed_means.over_the_same_seeds(cells["of_seeds"], column)
    least = cells["obtained"].where(alike).groupby(column).transform("min").where(normalised, 0.0)
    cells["obtained"] -= least
    comparable = cells["obtained"].notna() & (whole | ~normalised)
    cells["difference"] = (cells["obtained"] - cells["published"]).where(comparable)
    # The minimum at a density is 0 by definition, without an uncertainty; those of the others are of the difference to
    # the best of all temperatures.
    spread = cells["ci95"].mask(normalised & ((cells["ci95"] == 0) | (least > 0)))
    meets = (cells["obtained"] + spread >= cells["lower"]) & (cells["obtained"] - spread <= cells["upper"])
    cells["within"] = meets.astype("boolean").where(comparable & spread.notna())
    imported = cells["origin"].fillna("").str.contains("imported")
    cells["status"] = np.select([cells["obtained"].isna(), imported], ["not run", "imported"], "obtained")
    order = ["study", "panel", *KEYS, "published", "lower", "upper", "obtained", *SPREAD]
    return cells[[*order, "difference", "within", "status"]]


def spearman_within_density(table: pd.DataFrame, first: str, second: str, *, least: int = 3) -> pd.Series:
    """Spearman correlation of two columns of `table`, by density.

    Densities with fewer than `least` temperatures that have both values, or with a constant column, are omitted.
    """
    result = {}
    for density, part in table.dropna(subset=[first, second]).groupby("density"):
        if len(part) >= least and part[first].nunique() > 1 and part[second].nunique() > 1:
            result[density] = float(stats.spearmanr(part[first], part[second]).statistic)
    return pd.Series(result, dtype=float)


def amount(metric: str, value: float) -> str:
    """Format a difference in `metric`: errors (fractions) in percentage points, LMC and CKA as they are."""
    return f"{round(100 * value, 2) + 0.0:.2f} points" if metric.endswith("error") else f"{round(value, 4) + 0.0:.4f}"


def _row(measure: str, panel: str = "", value: float = float("nan"), beside: str = "", note: str = "") -> dict:
    return {"measure": measure, "panel": panel, "value": value, "beside": beside, "note": note}


def _coverage(cells: pd.DataFrame, word: str) -> list[dict]:
    rows = []
    for metric, part in cells.groupby("panel", sort=False):
        imported = int((part["status"] == "imported").sum())
        note = f"{imported} of them imported" if imported else ""
        value = int((part["status"] != "not run").sum())
        rows.append(_row("cells obtained", metric, value, f"{len(part)} {word}", note))
    return rows


def _elsewhere(reference: Reference, obtained: pd.DataFrame) -> list[dict]:
    both = obtained[KEYS].merge(reference.places().round({"density": 6}), on=KEYS, how="left", indicator=True)
    outside = int((both["_merge"] == "left_only").sum())
    return [_row(ELSEWHERE, value=outside, note="nothing to score them against")] if outside else []


def _differences(cells: pd.DataFrame, bounds: str) -> list[dict]:
    rows = []
    for metric, part in cells.dropna(subset=["difference"]).groupby("panel", sort=False):
        judged = part["within"].dropna()
        note = f"{int(judged.sum())} of {len(judged)} cells that can be judged meet the {bounds}"
        if judged.empty:
            inside = part["obtained"].between(part["lower"], part["upper"]).sum()
            note = f"{inside} of {len(part)} values lie within the {bounds}; no cell has an interval to judge it by"
        mean = f"mean difference {amount(metric, part['difference'].mean())}"
        rows.append(_row(DIFFERENCE, metric, part["difference"].abs().mean(), mean, note))
    return rows


def _rank_correlations(cells: pd.DataFrame) -> list[dict]:
    rows = []
    for metric, part in cells.groupby("panel", sort=False):
        by_density = spearman_within_density(_ranked(part), "published", "obtained")
        if len(by_density):
            note = f"mean of {len(by_density)} densities, smallest {by_density.min():.2f}"
            rows.append(_row("Spearman within density", metric, by_density.mean(), "1", note))
        elif part["obtained"].notna().any():
            note = "needs three temperatures at one density that differ"
            rows.append(_row("Spearman within density", metric, note=note))
    return rows


def _which_cka(cells: pd.DataFrame, reference: Reference) -> list[dict]:
    """Which of logits and softmax the reference's one CKA is closer to; nothing if it has both."""
    if reference.panels["cka_logits"] != reference.panels["cka_softmax"]:
        return []
    error = cells.assign(error=cells["difference"].abs()).pivot(index=KEYS, columns="panel", values="error")
    shared = error[["cka_logits", "cka_softmax"]].dropna()
    if shared.empty:
        return [_row("CKA that fits better", "cka", note="needs both kinds in one cell")]
    means = shared.mean()
    better = str(means.idxmin())
    text = f"mean absolute difference: logits {means['cka_logits']:.4f}, softmax {means['cka_softmax']:.4f}"
    return [_row("CKA that fits better", better, means[better], text, f"over {len(shared)} cells that have both")]


def _regimes(reference: Reference, obtained: pd.DataFrame, thresholds: Thresholds) -> list[dict]:
    drawn, rows = reference.drawn, []
    for kind in ("cka_softmax", "cka_logits"):
        labels = regimes.label(obtained, thresholds, cka=kind)
        labels["density"] = labels["density"].round(6)
        if kind == "cka_softmax" and drawn is not None:
            known = labels.dropna(subset=["lmc"])
            both = known.merge(drawn, on=KEYS, suffixes=("", "_true"))
            truth, here = both["regime_true"] == "I", both["lmc"] < thresholds.lmc
            rows += _agreement_rows("Regime I against the rest, as drawn", "lmc", here, truth)
        computed = regimes.label(reference.grid, thresholds, cka=kind)[[*KEYS, "regime"]]
        for name, other in (("as drawn", drawn), (f"computed from the {reference.word} values", computed)):
            if other is None:
                continue
            both = labels.dropna(subset=["regime", kind]).merge(other, on=KEYS, suffixes=("", "_true"))
            both = both.dropna(subset=["regime_true"])
            rows += _agreement_rows(f"three regimes, {name}", kind, both["regime"], both["regime_true"])
    return rows


def _agreement_rows(name: str, panel: str, here: pd.Series, truth: pd.Series) -> list[dict]:
    if truth.empty:
        return []
    beside = f"majority share {regimes.majority_share(truth):.3f}"
    rows = [_row(f"agreement, {name}", panel, regimes.agreement(here, truth), beside, f"{len(truth)} cells")]
    classes = truth.nunique()
    if classes > 1:  # of one regime it is the agreement
        balanced = regimes.balanced_accuracy(here, truth)
        note = f"{classes} regimes among them"
        rows.append(_row(f"balanced accuracy, {name}", panel, balanced, f"chance {1 / classes:.3f}", note))
    return rows


def _ranked(panel: pd.DataFrame) -> pd.DataFrame:
    """The cells of one panel that can be ranked against each other at their density."""
    return panel[seed_means.over_the_same_seeds(panel["of_seeds"], panel["density"])]


def _argmin_regret(cells: pd.DataFrame, word: str) -> list[dict]:
    normalised = cells[cells["panel"] == "normalised_test_error"].set_index(KEYS)["published"].rename("loss")
    part = _ranked(cells[cells["panel"] == "test_error"]).join(normalised, on=KEYS)
    regrets, among_run = [], []
    for _, column in part.groupby("density"):
        run = column.dropna(subset=["obtained", "loss"])
        if len(run) < 2:
            continue
        regret = run.loc[run["obtained"].idxmin(), "loss"]
        regrets.append(regret)
        among_run.append(regret - run["loss"].min())
    if not regrets:
        return [_row(REGRET, "test_error", note="needs two temperatures")]
    note = f"{word} points lost, mean of {len(regrets)} densities, worst {100 * max(regrets):.2f} points"
    beside = f"{amount('test_error', np.mean(among_run))} against the best temperature that was run"
    return [_row(REGRET, "test_error", float(np.mean(regrets)), beside, note)]


def _dense_accuracy(grid: pd.DataFrame, as_published: bool) -> list[dict]:
    """Accuracy of the dense model, beside the expected window where it was trained `as_published`."""
    if grid["dense_test_error"].isna().all():
        return []
    first = grid.iloc[0]
    what = f"dense {(seed_means.setting_of_table(grid) or Setting).accuracy}"
    window = DENSE_ACCURACY_WINDOW.get((first["dataset"], first["model"], first["knob"])) if as_published else None
    at, *bounds = window or (usual_temperature(grid),)
    known = grid[np.isclose(grid["temperature"], at)].dropna(subset=["dense_test_error"])
    if known.empty:
        return [_row(what, "dense_test_error", note=f"temperature {at:g} was not run")]
    accuracy = 1 - float(known["dense_test_error"].mean())
    note = f"temperature {at:g}, {int(known['dense_test_error_seeds'].max())} dense seed(s)"
    if not bounds:
        return [_row(what, "dense_test_error", accuracy, "no expected window", note)]
    inside = "inside" if bounds[0] <= accuracy <= bounds[1] else "outside"
    beside = f"expected {bounds[0]:g} … {bounds[1]:g}: {inside}"
    return [_row(what, "dense_test_error", accuracy, beside, note)]
