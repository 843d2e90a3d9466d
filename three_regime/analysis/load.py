"""Tables of a results folder, or of an unpacked export, for a notebook. No torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from three_regime.errors import UserError
from three_regime.study.outputs import CELL_TABLES, OVERALL_FILES, REGIME_TABLES
from three_regime.system.files import read_table

TABLES = (*CELL_TABLES, *REGIME_TABLES, "claims")
"""Tables of one study that are loaded, as far as they are there."""


def load_results(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Every table in a folder, those of its studies one below the other.

    Parameters
    ----------
    folder
        A results folder (``results/demo``), one study in it, or an unpacked export.

    Returns
    -------
    dict
        Name (``cells``, ``replicas``, ``pairs``, ``grid``, ``regimes``, ``selection``, ``claims``, …; of all studies
        together ``family``, ``sam``, ``scorecard``, …) → tidy table; its column ``study`` says which study a row is of.
        Errors and LMC are fractions, NLL in nats. Tables that no study has are left out.

    Raises
    ------
    UserError
        When the folder holds no ``cells.csv``, or a table cannot be read.
    """
    root = Path(folder)
    studies = [root] if (root / "cells.csv").is_file() else sorted(path.parent for path in root.glob("*/cells.csv"))
    if not studies:
        raise UserError(f"{root} holds no cells.csv: name a results folder, a study in it, or an unpacked export")
    found: dict[str, pd.DataFrame] = {}
    for name in TABLES:
        tables = [_of_study(path) for study in studies if (path := study / f"{name}.csv").is_file()]
        if tables:
            found[name] = pd.concat(tables, ignore_index=True)
    over_all = [root / name for name in OVERALL_FILES if name.endswith(".csv")]
    return found | {path.stem: read_table(path) for path in over_all if path.is_file()}


def _of_study(path: Path) -> pd.DataFrame:
    table = read_table(path)
    if "study" not in table:
        table.insert(0, "study", path.parent.name)
    return table
