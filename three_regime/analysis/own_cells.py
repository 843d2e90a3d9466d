"""Cells measured with other code: a CSV that a lab fills in, from an empty table (`template`), to be scored.

One unit holds for densities, errors and LMC of a file, and is written in it: fractions (0.05) or percent (5). Nothing
is guessed; values that contradict the stated unit are refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from three_regime.analysis import seed_means
from three_regime.analysis.references import Reference
from three_regime.errors import UserError
from three_regime.names import nearest
from three_regime.system.files import read_table

UNITS = {"fraction": 1.0, "percent": 0.01}
"""Value of the column ``unit`` → its size as a fraction."""

REQUIRED = ("unit", "temperature", "density")
MEASURED = ("dense_test_error", "test_error", "lmc", "cka_logits", "cka_softmax")
"""Measured columns; a file may lack some, and any field may be empty."""

IN_UNITS = ("density", "dense_test_error", "test_error", "lmc")
"""Columns in the stated unit; CKA is from 0 to 1 in either."""

COLUMNS = (*REQUIRED, "dense_seed", *MEASURED)
ORIGIN = "other code"
HIGHEST_LMC = 0.1
"""A larger LMC (a fraction) is taken for a barrier height, which has the opposite sign: in the published figure the
largest is 0.001, since noise alone makes LMC positive (this project's choice)."""


def template(reference: Reference) -> pd.DataFrame:
    """An empty table: a row for each cell of the reference, in fractions, of one dense seed."""
    rows = reference.places().sort_values(["density", "temperature"], ignore_index=True)
    plain = {name: rows[name].map("{:g}".format) for name in rows}
    return rows.assign(unit="fraction", dense_seed=1, **plain).reindex(columns=COLUMNS)


def is_own(path: Path) -> bool:
    """Whether `path` is a table like `template`, not cells of this project (`seed_means.read_cells`)."""
    return path.is_file() and path.suffix != ".zip" and "origin" not in read_table(path)


def read(path: Path, reference: Reference, *, study: str = "") -> pd.DataFrame:
    """Read a filled-in table as rows of ``cells.csv``.

    Parameters
    ----------
    path
        A table with the columns `REQUIRED`, any of `MEASURED`, and ``dense_seed`` if several dense networks were
        trained. Rows without a measured value are ignored, and so are other columns whose name is not nearly one of
        these.
    reference
        Gives data set, model and knob.
    study
        Name of the rows' study; default: the reference's.

    Raises
    ------
    UserError
        When a column is missing or misspelt, nothing is measured, the unit is missing, mixed or contradicted by the
        values, LMC has the opposite sign, or `seed_means.check_cells` rejects the cells.
    """
    table = read_table(path)
    for column in REQUIRED:
        if column not in table:
            raise UserError(
                f"{path} lacks the column {column!r}; a table of your own cells has the comma-separated columns "
                f"{', '.join(COLUMNS)}: `scorecard --template FILE` writes one to fill in"
            )
    for column in table:
        _refuse_misspelt(str(column), path)
    measured = [column for column in MEASURED if column in table]
    cells = table[table[measured].notna().any(axis=1)] if measured else table.iloc[:0]
    if cells.empty:
        raise UserError(f"{path} holds no measured value in the columns {', '.join(MEASURED)}")
    unit = _unit(cells["unit"], path)
    cells = cells.assign(**{name: _numbers(cells, name, path) for name in IN_UNITS if name in cells})
    for name in IN_UNITS:
        if name in cells:
            _refuse_other_unit(cells[name], unit, path)
            cells[name] *= UNITS[unit]
    if "lmc" in cells and cells["lmc"].max() > HIGHEST_LMC:
        raise UserError(
            f"{path}: column 'lmc' holds {cells['lmc'].max() / UNITS[unit]:g}. LMC is negative where there is a"
            " barrier: give barrier heights a minus sign"
        )
    seeds = cells["dense_seed"].fillna(1) if "dense_seed" in cells else 1
    about = {"study": study or reference.study, "dataset": reference.dataset, "model": reference.model}
    cells = cells[["temperature", "density", *measured]].assign(
        **about, knob=reference.knob, dense_seed=seeds, origin=ORIGIN
    )
    return seed_means.check_cells(cells, str(path)).reset_index(drop=True)


def _refuse_misspelt(column: str, path: Path) -> None:
    """Raise if an unknown column is nearly a known one; others are the lab's own."""
    if column in COLUMNS:
        return
    plain = column.strip().lower()
    meant = [name for name in COLUMNS if name.startswith(plain)] if len(plain) > 2 else []
    if hint := f"; did you mean {' or '.join(map(repr, meant))}?" if meant else nearest(plain, COLUMNS):
        raise UserError(f"{path}: unknown column {column!r}{hint} Rename or remove it")


def _unit(column: pd.Series, path: Path) -> str:
    """The one unit of a file."""
    named = sorted({"" if pd.isna(value) else str(value).strip().lower() for value in column})
    if len(named) == 1 and named[0] in UNITS:
        return named[0]
    found = " and ".join(repr(value) for value in named)
    raise UserError(f"{path}: column 'unit' holds {found}; write either {' or '.join(UNITS)} in every row")


def _numbers(cells: pd.DataFrame, name: str, path: Path) -> pd.Series:
    try:
        return pd.to_numeric(cells[name])
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: column {name!r} holds something that is not a number ({error})") from error


def _refuse_other_unit(values: pd.Series, unit: str, path: Path) -> None:
    """Raise if a fraction is above 1, or if all percentages are so small that they may be fractions."""
    sizes = values.abs()
    if unit == "fraction" and (sizes > 1).any():
        row = int(np.flatnonzero(sizes > 1)[0])
        raise UserError(
            f"{path}: column {values.name!r} holds {values.iloc[row]:g} in row {values.index[row] + 2}, but the column "
            f"'unit' says fraction: write {values.iloc[row] / 100:g}, or change the unit to percent (of every value)"
        )
    if unit == "percent" and sizes.max() <= 1:
        raise UserError(
            f"{path}: column {values.name!r} holds nothing above {sizes.max():g}, although the column 'unit' says"
            " percent: these may be fractions. Write densities, errors and LMC as fractions, with the unit fraction"
        )
