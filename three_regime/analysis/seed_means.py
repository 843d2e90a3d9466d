"""Average cells over dense seeds, with uncertainty: from ``cells.csv`` to a grid.

The pairs of a cell share replicas, and all cells of a dense seed share one dense training, so the dense seeds are
the only independent repetitions. Each contributes one mean per temperature and density. The variance of these seed
means varies by orders of magnitude between densities but little between temperatures, so it is pooled over the
temperatures of a density, never over densities. Intervals use Student's t with (number of dense seeds − 1) degrees of
freedom. Cells whose spread comes from one seed are marked (`dominant_seed`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from three_regime.config.knobs import KNOBS
from three_regime.config.loads import DENSITY, load_of
from three_regime.config.measures import measured_columns
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.settings import Setting, setting_of
from three_regime.study.outputs import PUBLISHED
from three_regime.system.files import read_table

KEYS = ["study", "knob", "temperature"]
"""Columns that, with the load (`three_regime.config.loads`), identify a row of a grid."""

METRICS = (
    "dense_test_error", "test_error", "lmc", "lmc_middle", "lmc_nll", "lmc_test", "cka_logits", "cka_softmax",
)  # fmt: skip
DENSE_PROXY = "dense_proxy"


def metrics_of(cells: pd.DataFrame) -> list[str]:
    """`METRICS`, and those additional measures and the proxy of the dense error that the cells have."""
    also = [name for name in (*measured_columns(), DENSE_PROXY) if name in cells]
    return [*METRICS, *also]


def setting_of_table(table: pd.DataFrame) -> Setting | None:
    """The setting of one study's cells or grid, by its data set; None where that is not known here."""
    entry = DATASETS.get(str(table["dataset"].iloc[0])) if "dataset" in table and len(table) else None
    return setting_of(entry.kind) if entry else None


def over_the_same_seeds(seeds: pd.Series, keys: pd.Series | list[pd.Series]) -> pd.Series:
    """Which rows are means over the same dense seeds: the largest set among those with equal `keys`.

    Only these are compared with each other: a cell that lacks dense seeds may lack the harder or the easier ones. Of
    equally large sets, the one that most rows have counts, then the first in the order of the alphabet.

    Parameters
    ----------
    seeds
        A column ``m_of_seeds`` of a grid.
    """
    names = seeds.map(seed_names)
    return names == names.groupby(keys).transform(_largest_set)


def seed_names(value: object) -> str:
    """A field of a column ``m_of_seeds`` as text: CSV files read a single seed as a number and none as missing."""
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else str(int(value))


def _largest_set(names: pd.Series) -> str:
    frequencies = names.value_counts()
    size = {each: len(each.split("+")) if each else 0 for each in frequencies.index}
    return min(frequencies.index, key=lambda each: (-size[each], -frequencies[each], each))


DOMINATES = 5.0
"""One seed dominates the spread if omitting it reduces the standard deviation by this factor (this project's choice).
With three seeds from a normal distribution this happens by chance in a quarter of the cells, and in one of nine if the
cell's variance must also be at least the pooled one, as in `grid`; with five seeds in one of two hundred."""

_FIXED = ["study", "dataset", "model", "knob"]
_REQUIRED = [*_FIXED, "dense_seed", "temperature", "density", "origin"]


def read_cells(path: Path) -> pd.DataFrame:
    """Read ``cells.csv``.

    Parameters
    ----------
    path
        The file, or a folder that holds ``cells.csv`` (results of a study, another lab's export) or a subfolder with
        ``cells.csv`` for each study; grids over another load than density, and the published figure, are left out
        unless named themselves.

    Raises
    ------
    UserError
        When there is no such file, or `check_cells` rejects its content.
    """
    path = Path(path)
    several = path.is_dir() and not (path / "cells.csv").is_file()
    files = sorted(path.glob("*/cells.csv")) if several else [path / "cells.csv" if path.is_dir() else path]
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.suffix == ".zip":
        raise UserError(f"{path} is an archive: unzip it, and name the folder in it")
    if not files or not files[0].is_file():
        deeper = sorted({str(file.parents[1]) for file in path.glob("*/*/cells.csv")})
        raise UserError(
            f"{path} is not a cells.csv and holds none" + (f"; try {' or '.join(deeper)}" if deeper else "")
        )
    tables = [check_cells(read_table(file), str(file)) for file in files]
    if several:
        tables = [table for table in tables if load_of(table) is DENSITY and set(table["origin"]) != {PUBLISHED}]
    if not tables:
        raise UserError(
            f"{path} holds only published cells, which are no result, or grids over another load than density: name the"
            " folder of one of these"
        )
    return check_cells(pd.concat(tables, ignore_index=True), str(path))


def check_cells(cells: pd.DataFrame, source: str = "cells.csv") -> pd.DataFrame:
    """Validate cells; return a copy with every metric column, numeric, and loads rounded to 1e-6.

    Raises
    ------
    UserError
        When an identifying column is missing or empty, a value is not a number or out of range (an error above 1, a
        fractional seed), a density is outside (0, 1], a knob is unknown, or a cell occurs twice.
    """
    missing = [column for column in _REQUIRED if column not in cells]
    if missing:
        raise UserError(f"{source} lacks the column {missing[0]!r}")
    cells = cells.copy()
    for metric in METRICS:
        if metric not in cells:
            cells[metric] = np.nan
    load = load_of(cells)
    numeric = list(dict.fromkeys(["dense_seed", "temperature", "density", load.column, *metrics_of(cells)]))
    for column in numeric:
        try:
            cells[column] = pd.to_numeric(cells[column])
        except (ValueError, TypeError) as error:
            raise UserError(f"{source}: column {column!r} holds something that is not a number ({error})") from error
    cells["origin"] = cells["origin"].astype(object).where(cells["origin"].notna(), "")
    for column in dict.fromkeys((*_REQUIRED, load.column)):
        if cells[column].isna().any():
            raise UserError(f"{source}: column {column!r} has an empty field")
    _check_possible(cells, numeric, source)
    for column in {"density", load.column}:
        cells[column] = cells[column].round(6)
    if not cells["density"].between(0, 1, inclusive="right").all():
        raise UserError(f"{source}: column 'density' must hold fractions above 0 and at most 1")
    unknown = sorted(set(cells["knob"]) - set(KNOBS))
    if unknown:
        raise UserError(
            f"{source}: knob {unknown[0]!r} is not one of {', '.join(KNOBS)}; if a plugin registers it, name the plugin"
            " under `plugins` in the configuration (or with `scorecard --plugin`)"
        )
    twice = cells[cells.duplicated([*KEYS, load.column, "dense_seed"])]
    if len(twice):
        row = twice.iloc[0]
        raise UserError(
            f"{source} holds the cell {row['study']}, dense seed {row['dense_seed']}, temperature "
            f"{row['temperature']:g}, {load.noun} {row[load.column]:g} twice"
        )
    return cells.copy()  # in one piece, as `read_table`


_POSSIBLE = {
    "temperature": (0, np.inf),
    "dense_seed": (0, np.inf),
    "density": (0, 1),
    "lmc": (-1, 1),
    "lmc_test": (-1, 1),
}
"""Column → smallest and largest possible value; errors and CKA are in [0, 1]."""

_ROUNDING = 1e-6


def _check_possible(cells: pd.DataFrame, numeric: list[str], source: str) -> None:
    """Raise `UserError`, naming column and row, for infinite and out-of-range values and fractional seeds."""
    for column in numeric:
        unit = column.startswith("cka") or column.endswith("error") or column == DENSE_PROXY
        least, most = _POSSIBLE.get(column, (0, 1) if unit else (-np.inf, np.inf))
        values = cells[column].astype(float)
        wrong = np.isinf(values) | (values < least - _ROUNDING) | (values > most + _ROUNDING)
        if column == "dense_seed":
            wrong |= values != np.floor(values)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            bounds = f"from {least:g} to {most:g}" if np.isfinite(most) else f"from {least:g}" if least == 0 else ""
            kind = "a whole number" if column == "dense_seed" else "a finite number"
            raise UserError(
                f"{source}: column {column!r} holds {values.iloc[row]:g} in row {cells.index[row] + 2}, which must be"
                f" {kind}" + (f" {bounds}" if bounds else "")
            )


def read_grid(path: Path) -> pd.DataFrame:
    """Read ``grid.csv``.

    Raises
    ------
    UserError
        When the file is no such table, or an earlier version made it.
    """
    return check_grid(read_table(path, [*_FIXED, "temperature"]), path)


def check_grid(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a grid read from `path`.

    Raises
    ------
    UserError
        When an earlier version made it.
    """
    if missing := [column for column in _COMPARED if column not in table]:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}: an earlier version made it; make the tables again"
            " (`make run`, or `python -m three_regime run-stage tables`)"
        )
    return table


_COMPARED = ("test_error_of_seeds", "test_error_highest")
"""Columns of a grid that say which cells can be compared; grids made before these columns lack them."""


def grid(cells: pd.DataFrame) -> pd.DataFrame:
    """Means over dense seeds, one row per study, knob, temperature and density (or other load).

    Parameters
    ----------
    cells
        Rows of ``cells.csv``, one per cell, over one load; missing values are NaN. What is said of density here and in
        the other tables holds for any load; then the constant ``density`` is one more column.

    Returns
    -------
    DataFrame
        The keys; ``dataset``, ``model``, ``origin`` (several joined by "+"), ``seeds`` (number of dense seeds with any
        metric); and for each metric m of `metrics_of` and for ``normalised_test_error``: m (mean over dense seeds),
        ``m_se`` (standard error from the variance pooled over the temperatures of the density), ``m_ci95`` (half-width
        of the 95 % interval), ``m_seeds`` (number of dense seeds with m), ``m_of_seeds`` (these seeds, joined by "+")
        and ``m_one_seed`` (the dense seed that dominates the cell's spread, see `dominant_seed`, if that spread is at
        least the pooled one; otherwise NaN). Means are rounded to 12 decimals, so equal cells have equal means. Both
        uncertainties are NaN if fewer than two seeds have m. ``normalised_test_error`` is the test error minus the
        smallest mean at that density, among the temperatures with the same dense seeds (`over_the_same_seeds`); one
        with other seeds is compared on those it shares with the best (and can be below 0). Its uncertainty is that of
        the difference paired by dense seed (0 at the minimum itself). ``test_error_highest`` is the largest test error
        of a dense seed.

    Raises
    ------
    UserError
        As `check_cells`.
    """
    cells = check_cells(cells).sort_values("dense_seed", kind="stable")
    load = load_of(cells)
    keys = [*KEYS, load.column]
    groups = cells.groupby(keys, sort=True)
    table = groups[["dataset", "model"] if load is DENSITY else ["dataset", "model", "density"]].first()
    table["origin"] = groups["origin"].agg(lambda values: "+".join(sorted(set(values) - {""})))
    run = cells[cells[list(METRICS)].notna().any(axis=1)]
    table["seeds"] = run.groupby(keys)["dense_seed"].nunique()
    table["seeds"] = table["seeds"].fillna(0).astype(int)
    table = table.join(pd.concat([_spread(cells, metric, keys) for metric in metrics_of(cells)], axis=1))
    table = table.join(_normalised(cells, table, keys))
    table["test_error_highest"] = groups["test_error"].max()
    return table.copy().reset_index().sort_values(["study", load.column, "temperature"], ignore_index=True)


def of_each_seed(cells: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Dense seed and its cells as a grid: one row per cell, without uncertainties.

    Raises
    ------
    UserError
        As `check_cells`.
    """
    cells = check_cells(cells)
    for seed, part in cells.groupby("dense_seed"):
        known = part["test_error"].notna()
        part = part.drop(columns="dense_seed").assign(
            test_error_seeds=known.astype(int),
            test_error_of_seeds=known.map({True: str(seed), False: ""}),
            test_error_se=np.nan,
            test_error_highest=part["test_error"],
        )
        yield int(seed), part.sort_values(["study", load_of(cells).column, "temperature"], ignore_index=True)


def dominant_seed(values: pd.Series) -> float:
    """The dense seed whose omission reduces the standard deviation of `values` by a factor of `DOMINATES` or more.

    Parameters
    ----------
    values
        One value per dense seed, indexed by seed; missing values are ignored.

    Returns
    -------
    float
        The seed; NaN if there is none, fewer than three seeds have a value, or all values are equal.
    """
    known = values.dropna()
    spread = known.std(ddof=1)
    if len(known) < 3 or spread <= 1e-12 * max(1.0, known.abs().max()):  # equal but for rounding
        return float("nan")
    without = pd.Series({seed: known.drop(seed).std(ddof=1) for seed in known.index})
    return float(without.idxmin()) if without.min() * DOMINATES <= spread else float("nan")


def _spread(cells: pd.DataFrame, metric: str, keys: list[str]) -> pd.DataFrame:
    """Mean, pooled standard error, interval half-width, number of seeds and dominant seed of `metric` by grid row."""
    # 1. Variance over dense seeds within a cell; each value is already a mean over replicas or pairs.
    values = cells.groupby(keys)[metric]
    seeds = values.count()
    freedom = (seeds - 1).clip(lower=0)
    own = values.var(ddof=1)
    squares = (own * freedom).fillna(0.0)
    # 2. Pooled over the temperatures of a density, weighted by degrees of freedom, because few seeds estimate a
    #    variance poorly. Never over densities, whose variances differ by orders of magnitude.
    at_density = [key for key in keys if key != "temperature"]
    total = freedom.groupby(at_density).transform("sum")
    pooled = squares.groupby(at_density).transform("sum") / total.where(total > 0)
    # 3. Standard error of the cell's mean; undefined for one seed.
    se = np.sqrt(pooled / seeds.where(seeds >= 2))
    # 4. The seed that dominates it. If the cell's own variance is below the pooled one, the stated error is not that
    #    seed's; so most cells need no look.
    wide = (seeds >= 3) & (own >= pooled * (1 - 1e-9))
    rows = cells[pd.MultiIndex.from_frame(cells[keys]).isin(wide[wide].index)]
    one_seed = rows.set_index("dense_seed").groupby(keys)[metric].agg(dominant_seed).astype(float)
    names = cells["dense_seed"].astype(int).astype(str).where(cells[metric].notna())
    of_seeds = names.groupby([cells[key] for key in keys]).agg(lambda each: "+".join(each.dropna()))
    return pd.DataFrame(
        {
            metric: values.mean().round(12),
            f"{metric}_se": se,
            f"{metric}_ci95": se * stats.t.ppf(0.975, freedom.where(freedom > 0)),
            f"{metric}_seeds": seeds,
            f"{metric}_of_seeds": of_seeds.where(seeds > 0),
            f"{metric}_one_seed": one_seed.reindex(seeds.index),
        }
    )


def _normalised(cells: pd.DataFrame, table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """``normalised_test_error`` and its uncertainty, from differences to the best temperature, paired by dense seed."""
    name = "normalised_test_error"
    column = [key for key in keys if key != "temperature"]
    test_error, seeds = table["test_error"], table["test_error_seeds"]
    whole = over_the_same_seeds(table["test_error_of_seeds"], [table.index.get_level_values(key) for key in column])
    known = test_error[whole].dropna()
    best = known.loc[known.groupby(column).idxmin()].reset_index()[[*column, "temperature"]]
    best["is_best"] = True
    cells = cells.merge(best, on=[*column, "temperature"], how="left")
    cells["is_best"] = cells["is_best"].notna()
    at_best = cells.loc[cells["is_best"], [*column, "dense_seed", "test_error"]]
    cells = cells.merge(at_best.rename(columns={"test_error": "at_best"}), on=[*column, "dense_seed"], how="left")
    cells[name] = (cells["test_error"] - cells["at_best"]).mask(cells["is_best"])
    spread = _spread(cells, name, keys)
    # A cell with other dense seeds is compared on those that it shares, which may be the harder or the easier ones.
    least = test_error.where(whole).groupby(column).transform("min")
    spread[name] = (test_error - least).round(12).where(whole, spread[name])
    is_best = cells.groupby(keys)["is_best"].any()
    spread.loc[is_best, f"{name}_seeds"] = seeds[is_best]
    spread.loc[is_best, f"{name}_of_seeds"] = table.loc[is_best, "test_error_of_seeds"]
    spread.loc[is_best & (seeds >= 2), [f"{name}_se", f"{name}_ci95"]] = 0.0
    return spread
