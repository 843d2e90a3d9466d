"""Load the tables of a results folder or an unpacked export, for notebooks. Does not import torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from three_regime.config.loads import DENSITY, load_of
from three_regime.errors import UserError
from three_regime.study.outputs import CELL_TABLES, MEASURE_TABLES, OVERALL_FILES, PUBLISHED, REGIME_TABLES
from three_regime.system.files import read_table

TABLES = (*CELL_TABLES, *MEASURE_TABLES, *REGIME_TABLES, "claims")
"""Tables of one study that are loaded if present."""


def load_results(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Load every table in a folder; tables of several studies are concatenated, without grids over another load.

    Parameters
    ----------
    folder
        A results folder (``results/demo``), the folder of one study or load grid in it, or an unpacked export.

    Returns
    -------
    dict
        Name (``cells``, ``replicas``, ``pairs``, ``grid``, ``regimes``, ``selection``, ``claims``, …; over all studies
        ``family``, ``sam``, ``scorecard``, …) → tidy table, with the study of each row in the column ``study``.
        Errors and LMC are fractions, NLL is in nats. Tables that no study has are omitted. The digitised published
        figure, which a run puts beside its studies, has the study ``published``.

    Raises
    ------
    UserError
        When the folder holds no ``cells.csv``, or a table cannot be read.
    """
    root = Path(folder)
    if (root / "cells.csv").is_file():
        studies = [root]
    else:  # the cells of a load grid are those of its studies again
        tables = sorted(root.glob("*/cells.csv"))
        studies = [path.parent for path in tables if load_of(read_table(path)) is DENSITY]
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
    # Its tables name the study that it is compared with; merged with that study's they would be one more dense seed.
    return table.assign(study=PUBLISHED) if path.parent.name == PUBLISHED else table
