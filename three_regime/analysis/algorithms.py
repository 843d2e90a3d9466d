"""Temperature tuning and model selection (paper, Algorithms 1, 2 and 2.1), baselines and the oracle.

The public record only names the algorithms, so their step rules are this project's definitions. Each works on the
cells at one density, ordered from hot to cold. A *probe* is the cost of measuring LMC and CKA of one cell: two
retrainings and the line between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from three_regime.analysis import regimes, seed_means
from three_regime.analysis.regimes import SENSITIVITY_RANGE
from three_regime.config.knobs import KNOBS
from three_regime.config.loads import DENSITY, load_of
from three_regime.config.thresholds import Thresholds


@dataclass(frozen=True, eq=False)
class Column:
    """Candidate models at one density (or other load), ordered from hot to cold; NaN where a measurement is missing.

    Attributes
    ----------
    at
        The density (a fraction), or the value of another load.
    studies
        Study of each candidate: one study, or those of a family one after another, each from hot to cold.
    temperatures, lmc, cka, dense_error, test_error
        Arrays of equal length; errors and LMC are fractions.
    """

    at: float
    studies: tuple[str, ...]
    temperatures: np.ndarray
    lmc: np.ndarray
    cka: np.ndarray
    dense_error: np.ndarray
    test_error: np.ndarray

    def __post_init__(self) -> None:
        lengths = {len(values) for values in vars(self).values() if isinstance(values, np.ndarray | tuple)}
        if len(lengths) != 1:
            raise ValueError(f"a column needs arrays of equal length, not {sorted(lengths)}")


Threshold = float | np.ndarray
"""LMC below which a candidate is in Regime I: one for the column, or one per candidate."""


@dataclass(frozen=True)
class Choice:
    """Choice of an algorithm: `index` in the column, number of `probes`, and the cells probed, in order (`path`)."""

    temperature: float
    index: int
    probes: int
    path: tuple[int, ...]


def algorithm_1(column: Column, threshold: float, start: int) -> Choice:
    """Algorithm 1 (temperature tuning): step hotter to leave Regime I, or colder while CKA increases.

    From a start in Regime I (LMC below `threshold`), step hotter until a cell is connected. Otherwise step colder while
    the next cell is connected and its CKA is higher. A missing neighbour ends the search.

    Returns
    -------
    Choice
        `path` holds every cell whose LMC was read, including a rejected last one; each is a probe.
    """
    seen: list[int] = []

    def known(index: int) -> bool:
        inside = 0 <= index < len(column.lmc) and bool(np.isfinite(column.lmc[index]))
        if inside:
            seen.append(index)
        return inside

    here = start
    if known(here):
        # Regime I, poorly connected: the dense model was trained too cold. Go hotter until a cell is connected.
        if column.lmc[here] < threshold:
            while column.lmc[here] < threshold and known(here - 1):
                here -= 1
        # Regime II, connected: go colder while replicas stay connected and become more similar.
        else:
            while known(here + 1) and column.lmc[here + 1] >= threshold and column.cka[here + 1] > column.cka[here]:
                here += 1
    return _choice(column, here, seen)


def algorithm_2(column: Column, threshold: Threshold) -> Choice | None:
    """Algorithm 2 (model selection): lowest dense test error among candidates outside Regime I (ties: colder).

    Candidates are probed in order of dense error until one is connected, which needs the fewest probes. If none is
    connected, the highest LMC is chosen. None when no candidate has both an LMC and a dense error.
    """
    usable = np.isfinite(column.lmc) & np.isfinite(column.dense_error)
    order = [index for index in _coldest_first_by(column.dense_error) if usable[index]]
    connected = column.lmc >= threshold
    for rank, index in enumerate(order):
        if connected[index]:
            return _choice(column, index, order[: rank + 1])
    return _choice(column, _coldest_first_by(-np.where(usable, column.lmc, -np.inf))[0], order) if order else None


def algorithm_2_1(column: Column, threshold: Threshold) -> Choice | None:
    """Algorithm 2.1 (model selection): highest CKA among candidates outside Regime I (ties: colder).

    Every candidate is probed. If none is connected, the highest LMC is chosen. None when no candidate has both.
    """
    usable = np.isfinite(column.lmc) & np.isfinite(column.cka)
    if not usable.any():
        return None
    connected = usable & (column.lmc >= threshold)
    worth = np.where(connected, column.cka, -np.inf) if connected.any() else np.where(usable, column.lmc, -np.inf)
    return _choice(column, _coldest_first_by(-worth)[0], np.flatnonzero(usable).tolist())


def lowest_dense_error(column: Column) -> Choice | None:
    """Baseline: the model with the lowest test error before pruning (ties: colder); needs no probe."""
    if not np.isfinite(column.dense_error).any():
        return None
    return _choice(column, _coldest_first_by(column.dense_error)[0], [])


def at_temperature(column: Column, temperature: float, *, study: str | None = None) -> Choice | None:
    """Baseline: a fixed temperature (in a family: of `study`); None when it is not in the column."""
    same = np.isclose(column.temperatures, temperature)
    if study is not None:
        same &= np.array(column.studies) == study
    places = np.flatnonzero(same)
    return _choice(column, int(places[0]), []) if places.size else None


def oracle(column: Column) -> Choice | None:
    """Lowest test error after pruning and retraining (ties: colder); `path` holds every cell: all are retrained."""
    run = np.flatnonzero(np.isfinite(column.test_error)).tolist()
    return _choice(column, _coldest_first_by(column.test_error)[0], run) if run else None


def usual_temperature(grid: pd.DataFrame) -> float:
    """Default temperature of one study: its setting's, or the coldest where that has none or is not known."""
    knob = grid["knob"].iloc[0]
    setting = seed_means.setting_of_table(grid)
    usual = setting.usual_temperatures if setting else {}
    coldest = KNOBS[knob].hot_first(sorted(set(grid["temperature"])))[-1]
    return float(usual.get(knob, coldest))


def columns(grid: pd.DataFrame, *, cka: str = "cka_softmax") -> Iterator[Column]:
    """One `Column` per density over the studies of `grid` (in order of appearance), each hot to cold.

    The dense error is ``dense_test_error``. A study without any uses ``dense_proxy`` if present: the published test
    error at 80 % density, which makes "lowest dense error" the oracle at that density. A cell at chance
    (`regimes.at_chance`) counts as poorly connected, with the lowest possible LMC: collapsed networks have none. A cell
    with other dense seeds than most at its study and density (`seed_means.over_the_same_seeds`) is a candidate, but its
    test error, a mean over other networks, is not compared (NaN).
    """
    load = load_of(grid).column
    ordered = []
    for study, part in grid.groupby("study", sort=False):
        dense = part["dense_test_error"]
        if dense.isna().all() and seed_means.DENSE_PROXY in part:
            dense = part[seed_means.DENSE_PROXY]
        order = KNOBS[part["knob"].iloc[0]].hot_first(sorted(set(part["temperature"])))
        full = pd.MultiIndex.from_product([order, sorted(set(part[load]))], names=["temperature", load])
        lmc = part["lmc"].mask(part["lmc"].notna() & regimes.at_chance(part), -1.0)
        whole = seed_means.over_the_same_seeds(part["test_error_of_seeds"], part[load])
        part = part.assign(dense_error=dense, lmc=lmc, test_error=part["test_error"].where(whole))
        part = part.set_index(["temperature", load]).reindex(full)
        ordered.append(part.assign(study=study).reset_index())
    table = pd.concat(ordered, ignore_index=True)
    for value, part in table.groupby(load):
        yield Column(
            at=float(value),
            studies=tuple(part["study"]),
            temperatures=part["temperature"].to_numpy(float),
            lmc=part["lmc"].to_numpy(float),
            cka=part[cka].to_numpy(float),
            dense_error=part["dense_error"].to_numpy(float),
            test_error=part["test_error"].to_numpy(float),
        )


OUTCOME = ["temperature", "test_error", "oracle_error", "regret", "probes"]


def outcome(column: Column, choice: Choice) -> dict[str, float]:
    """Test error of a choice, lowest test error of the column, their difference (regret), and probes (`OUTCOME`)."""
    error = float(column.test_error[choice.index])
    run = np.isfinite(column.test_error)
    best = float(column.test_error[run].min()) if run.any() else float("nan")
    return {
        "temperature": choice.temperature,
        "test_error": error,
        "oracle_error": best,
        "regret": error - best,
        "probes": choice.probes,
    }


def choices_without_start(column: Column, threshold: Threshold) -> dict[str, Choice]:
    """Method name → choice, for methods without a start or default; omitted where measurements are missing."""
    choices = {
        "algorithm 2": algorithm_2(column, threshold),
        "algorithm 2.1": algorithm_2_1(column, threshold),
        "lowest dense error": lowest_dense_error(column),
        "oracle": oracle(column),
    }
    return {name: choice for name, choice in choices.items() if choice is not None}


def evaluate(
    table: pd.DataFrame,
    thresholds: Thresholds,
    *,
    default: float | None = None,
    cka: str = "cka_softmax",
) -> pd.DataFrame:
    """All algorithms and baselines on every density of every study.

    Parameters
    ----------
    table
        A grid, or cells: then each dense seed is evaluated separately and the result has a column ``dense_seed``.
    default
        Default temperature; None: `usual_temperature` of each study. Methods whose temperature was not run or whose
        measurements are missing have no rows.

    Returns
    -------
    DataFrame
        ``study``, ``knob``, ``algorithm`` ("algorithm 1", "algorithm 2", "algorithm 2.1", "default temperature",
        "lowest dense error", "oracle"), ``start`` (Algorithm 1: every measured temperature), ``density``,
        ``temperature``, ``test_error``, ``oracle_error``, ``regret`` (their difference, a fraction), ``probes``,
        ``dense_error`` ("measured" or "proxy").
    """
    if "dense_seed" in table:
        seeds = [
            evaluate(part, thresholds, default=default, cka=cka).assign(dense_seed=seed)
            for seed, part in seed_means.of_each_seed(table)
        ]
        return pd.concat(seeds, ignore_index=True)
    load = load_of(table).column
    rows = []
    for study, part in table.groupby("study", sort=False):
        fixed = usual_temperature(part) if default is None else default
        common = {"study": study, "knob": part["knob"].iloc[0], "dense_error": _dense_error_kind(part)}
        for column in columns(part, cka=cka):
            here = {**common, load: column.at}
            rows += [
                {**here, "algorithm": "algorithm 1", "start": column.temperatures[start], **outcome(column, choice)}
                for start in np.flatnonzero(np.isfinite(column.lmc))
                for choice in [algorithm_1(column, thresholds.lmc, int(start))]
            ]
            others = choices_without_start(column, thresholds.lmc)
            usual = at_temperature(column, fixed)
            if usual is not None:
                others["default temperature"] = usual
            rows += [
                {**here, "algorithm": name, "start": float("nan"), **outcome(column, choice)}
                for name, choice in others.items()
            ]
    names = ["study", "knob", "algorithm", "start", load, *OUTCOME, "dense_error"]
    return pd.DataFrame(rows, columns=names)


def summary(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Mean and maximum regret over densities (and dense seeds), by study or dataset, algorithm and start.

    Returns
    -------
    DataFrame
        ``study`` (or ``dataset`` for a family), ``algorithm``, ``start`` (text: a temperature, "all" for Algorithm 1
        over every start, empty for other algorithms), ``mean_regret``, ``worst_regret``, ``mean_test_error``,
        ``mean_probes``, ``densities`` (their number; for another load ``loads``). Rows without a regret (the chosen
        cell was not retrained) are ignored.
    """
    subject = "study" if "start" in evaluation else "dataset"
    load = load_of(evaluation)
    known = evaluation.dropna(subset=["regret"]).copy()
    known["start"] = [_start_text(value) for value in known["start"]] if "start" in known else ""
    every = known[known["start"] != ""].assign(start="all")
    groups = pd.concat([known, every]).groupby([subject, "algorithm", "start"], sort=False)
    return groups.agg(
        mean_regret=("regret", "mean"),
        worst_regret=("regret", "max"),
        mean_test_error=("test_error", "mean"),
        mean_probes=("probes", "mean"),
        **{"densities" if load is DENSITY else "loads": (load.column, "nunique")},
    ).reset_index()


def leave_one_density_out(
    grid: pd.DataFrame, drawn: pd.DataFrame, thresholds: Thresholds, *, cka: str = "cka_softmax"
) -> pd.DataFrame:
    """`evaluate` at each density, with the LMC threshold fitted to the drawn labels at the other densities.

    `grid` holds one study with drawn labels (`regimes.drawn_labels`). The column ``threshold`` is added. If the other
    densities do not hold both classes, or the fitted threshold is not negative, ``thresholds.lmc`` is used.
    """
    tables = []
    for density in sorted(set(grid["density"])):
        left_out = np.isclose(grid["density"], density)
        try:
            fitted = regimes.fit_lmc_threshold(grid[~left_out], drawn).threshold
        except ValueError:
            fitted = thresholds.lmc
        fitted = fitted if fitted < 0 else thresholds.lmc
        result = evaluate(grid[left_out], Thresholds(lmc=fitted, cka=thresholds.cka), cka=cka)
        tables.append(result.assign(threshold=fitted))
    return pd.concat(tables, ignore_index=True)


def sensitivity(
    grid: pd.DataFrame,
    drawn: pd.DataFrame | None = None,
    thresholds: Sequence[float] = SENSITIVITY_RANGE,
    *,
    cka: str = "cka_softmax",
) -> pd.DataFrame:
    """Mean regret of the algorithms on one study at each LMC threshold, and the fit to drawn labels if given.

    Returns
    -------
    DataFrame
        ``threshold``, ``agreement``, ``balanced_accuracy``, ``cells`` (see `regimes.sensitivity`), and mean regrets
        ``algorithm_1_cold`` (from the coldest temperature), ``algorithm_1_hot``, ``algorithm_1_all`` (mean over every
        start), ``algorithm_2``, ``algorithm_2_1``.
    """
    order = KNOBS[grid["knob"].iloc[0]].hot_first(sorted(set(grid["temperature"])))
    starts = {"algorithm_1_cold": f"{order[-1]:g}", "algorithm_1_hot": f"{order[0]:g}", "algorithm_1_all": "all"}
    rows = []
    for threshold in thresholds:
        table = summary(evaluate(grid, Thresholds(lmc=threshold), cka=cka)).set_index(["algorithm", "start"])
        regret = table["mean_regret"]
        row = {name: regret.get(("algorithm 1", start), np.nan) for name, start in starts.items()}
        row["algorithm_2"] = regret.get(("algorithm 2", ""), np.nan)
        row["algorithm_2_1"] = regret.get(("algorithm 2.1", ""), np.nan)
        rows.append({"threshold": threshold, **row})
    no_labels = pd.DataFrame({"temperature": [], "density": [], "regime": []})
    fit = regimes.sensitivity(grid, no_labels if drawn is None else drawn, thresholds)
    return fit.merge(pd.DataFrame(rows), on="threshold")


def _choice(column: Column, index: int, path: list[int]) -> Choice:
    return Choice(float(column.temperatures[index]), int(index), len(set(path)), tuple(int(place) for place in path))


def _coldest_first_by(values: np.ndarray) -> list[int]:
    """Indices that sort `values` in increasing order; ties: colder (later) first; NaN last."""
    return np.lexsort((-np.arange(len(values)), values)).tolist()


def _dense_error_kind(part: pd.DataFrame) -> str:
    return "proxy" if part["dense_test_error"].isna().all() and seed_means.DENSE_PROXY in part else "measured"


def _start_text(value: float) -> str:
    return f"{value:g}" if np.isfinite(value) else ""
