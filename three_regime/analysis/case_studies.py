"""Case studies 2 and 3 of the paper: model selection in a family, and tuning of SAM's rho."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from three_regime.analysis import algorithms
from three_regime.analysis.algorithms import OUTCOME, Choice
from three_regime.analysis.seed_means import over_the_same_seeds, read_grid, seed_names
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.study.outputs import CASE_TABLES
from three_regime.system.files import write_csv

SAM_COMPARED = (0.0, 0.05)
"""Values of rho that Algorithm 1 is compared with: no SAM, and the usual default."""


def evaluate_family(
    grids: pd.DataFrame,
    thresholds: Mapping[str, Thresholds],
    *,
    called: str | None = None,
    default: tuple[str, float] | None = None,
    cka: str = "cka_softmax",
) -> pd.DataFrame:
    """Case study 2: choose a dense model among all models of a family (several studies on one dataset, all knobs).

    Parameters
    ----------
    grids
        Grid rows of two or more studies; in ties a later study counts as colder.
    thresholds
        Study → thresholds; a model is classified by those of its own study (this project's choice).
    called
        What the column ``dataset`` says: the name of the family; default: that of the data set.
    default
        Study and temperature of the default model; None: the usual temperature of the first epochs study.

    Returns
    -------
    DataFrame
        ``dataset``, ``algorithm`` (as `evaluate`, without Algorithm 1), ``study``, ``density``, ``temperature``,
        ``test_error``, ``oracle_error``, ``regret``, ``probes``, ``models`` (candidates that were retrained).

    Raises
    ------
    UserError
        When the studies use different datasets.
    """
    datasets = sorted(set(grids["dataset"].dropna()))
    if len(datasets) != 1:
        raise UserError(f"a family shares one dataset, but these studies use {', '.join(datasets) or 'none'}")
    if default is None:
        epochs = grids[grids["knob"] == "epochs"]
        if len(epochs):
            first = epochs[epochs["study"] == epochs["study"].iloc[0]]
            default = (str(first["study"].iloc[0]), algorithms.usual_temperature(first))
    rows, called = [], called or datasets[0]
    for column in algorithms.columns(grids, cka=cka):
        own = np.array([thresholds[study].lmc for study in column.studies])
        choices = algorithms.choices_without_start(column, own)
        if default is not None:
            usual = algorithms.at_temperature(column, default[1], study=default[0])
            choices |= {"default temperature": usual} if usual is not None else {}
        models = int(np.isfinite(column.test_error).sum())
        for name, choice in choices.items():
            chosen = {"algorithm": name, "study": column.studies[choice.index]}
            found = {"density": column.at, **algorithms.outcome(column, choice)}
            rows.append({"dataset": called, **chosen, **found, "models": models})
    return pd.DataFrame(rows, columns=["dataset", "algorithm", "study", "density", *OUTCOME, "models"])


def tune_sam(
    grid: pd.DataFrame,
    thresholds: Thresholds,
    *,
    plain: pd.DataFrame | None = None,
    cka: str = "cka_softmax",
) -> pd.DataFrame:
    """Case study 3: Algorithm 1 on SAM's rho, compared with rho 0, rho 0.05 and the lowest dense test error.

    Parameters
    ----------
    grid
        One study with the ``sam_rho`` knob.
    plain
        Grid of an epochs study of the same model and dataset, trained without SAM: its coldest temperature serves as
        rho 0 if `grid` has none (only as a comparison, never as a step of Algorithm 1), at densities where it has the
        same dense seeds.

    Returns
    -------
    DataFrame
        ``density``, ``method``, ``temperature`` (rho), ``test_error``, ``oracle_error`` (over the rhos of `grid`),
        ``regret`` (negative when better than every rho of `grid`), ``probes``, ``status`` ("obtained" or
        "not run").

    Raises
    ------
    UserError
        When the knob of `grid` is not ``sam_rho``.
    """
    if set(grid["knob"]) != {"sam_rho"}:
        raise UserError(f"study {grid['study'].iloc[0]}: tuning SAM needs the knob sam_rho")
    without = {} if plain is None else _without_sam(plain, grid)
    rows = []
    for column in algorithms.columns(grid, cka=cka):
        methods: dict[str, Choice | None] = {
            "algorithm 1 from the largest rho": None,
            "algorithm 1 from the smallest rho": None,
            "lowest dense error": algorithms.lowest_dense_error(column),
            **{f"rho {rho:g}": algorithms.at_temperature(column, rho) for rho in SAM_COMPARED},
            "oracle": algorithms.oracle(column),
        }
        measured = np.flatnonzero(np.isfinite(column.lmc)).tolist()
        if measured:
            for start, place in {"largest": measured[0], "smallest": measured[-1]}.items():
                methods[f"algorithm 1 from the {start} rho"] = algorithms.algorithm_1(column, thresholds.lmc, place)
        best = float(np.nanmin(column.test_error)) if np.isfinite(column.test_error).any() else float("nan")
        for method, choice in methods.items():
            row = dict.fromkeys(OUTCOME, float("nan")) | {"oracle_error": best}
            if choice is not None:
                row = algorithms.outcome(column, choice)
            elif method == "rho 0" and column.at in without:
                error = without[column.at]
                row |= {"temperature": 0.0, "test_error": error, "regret": error - best, "probes": 0}
            status = "obtained" if np.isfinite(row["test_error"]) else "not run"
            rows.append({"method": method, "density": column.at, **row, "status": status})
    return pd.DataFrame(rows, columns=["method", "density", *OUTCOME, "status"])


def _without_sam(plain: pd.DataFrame, grid: pd.DataFrame) -> dict[float, float]:
    """Density → test error of the coldest `plain` model, where it is a mean over the dense seeds of `grid`."""
    coldest = plain[np.isclose(plain["temperature"], algorithms.usual_temperature(plain))]
    coldest = coldest.assign(density=coldest["density"].round(6)).set_index("density")
    compared = grid[over_the_same_seeds(grid["test_error_of_seeds"], grid["density"])]
    seeds = compared.groupby("density")["test_error_of_seeds"].first().map(seed_names)
    same = coldest["test_error_of_seeds"].map(seed_names) == seeds.reindex(coldest.index)
    return coldest.loc[same, "test_error"].to_dict()


def build(
    grids: list[pd.DataFrame],
    thresholds: Mapping[str, Thresholds],
    families: Mapping[str, str] | None = None,
    plain: Mapping[str, str] | None = None,
) -> dict[str, pd.DataFrame]:
    """Build the tables of ``CASE_TABLES`` from the grids of several studies.

    ``family`` and ``family_summary`` hold every family; ``sam`` holds every study with the SAM knob, compared with the
    epochs study that differs in SAM alone, if there is one.

    Parameters
    ----------
    thresholds
        Study → its thresholds.
    families
        Study → name of its family (`three_regime.study.grid.family_names`); default: the column ``dataset``.
    plain
        Study with the SAM knob → that epochs study (`three_regime.study.grid.without_sam`); default: none.
    """
    everything = pd.concat(grids, ignore_index=True)
    names = families or dict(zip(everything["study"], everything["dataset"], strict=True))
    family = pd.concat(
        [
            evaluate_family(part, thresholds, called=name)
            for name, part in everything.groupby(everything["study"].map(names), sort=False)
        ],
        ignore_index=True,
    )
    by_study = {str(grid["study"].iloc[0]): grid for grid in grids}
    tuned = []
    for study, grid in by_study.items():
        if grid["knob"].iloc[0] != "sam_rho":
            continue
        table = tune_sam(grid, thresholds[study], plain=by_study.get((plain or {}).get(study, "")))
        table.insert(0, "study", study)
        tuned.append(table)
    nothing = pd.DataFrame(columns=["study", "density", *OUTCOME, "method", "status"])
    sam = pd.concat(tuned, ignore_index=True) if tuned else nothing
    tables = {"family": family, "family_summary": algorithms.summary(family), "sam": sam}
    return {name: tables[name] for name in CASE_TABLES}


def write(
    folder: Path,
    grids: Sequence[Path],
    thresholds: Mapping[str, Thresholds],
    families: Mapping[str, str] | None = None,
    plain: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the tables of `of_files` into `folder`; return their paths."""
    tables = of_files(grids, thresholds, families, plain)
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    return [folder / f"{name}.csv" for name in tables]


def of_files(
    grids: Sequence[Path],
    thresholds: Mapping[str, Thresholds],
    families: Mapping[str, str] | None = None,
    plain: Mapping[str, str] | None = None,
) -> dict[str, pd.DataFrame]:
    """Build the tables of `build` from the ``grid.csv`` of every study.

    Raises
    ------
    UserError
        When a grid is missing, is not such a table, or belongs to another study.
    """
    read = {path: read_grid(path) for path in grids}
    for path, grid in read.items():
        if unknown := sorted(set(grid["study"]) - set(thresholds)):
            raise UserError(f"{path} is a table of study {unknown[0]!r}, which is not one of {', '.join(thresholds)}")
    return build(list(read.values()), thresholds, families, plain)
