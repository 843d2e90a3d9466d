"""Find derived tables that other tables and the settings no longer give: regimes, claims, case studies, scorecard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from three_regime.analysis import case_studies, claims_files, regime_tables, scorecard, scorecard_files, seed_means
from three_regime.analysis.load_grids import is_current
from three_regime.config import Config
from three_regime.study.grid import Study, family_names, planned, without_sam
from three_regime.study.load_grids import LoadGrid, load_grids
from three_regime.study.outputs import (
    CASE_FOLDER,
    CASE_TABLES,
    CLAIM_FILES,
    REGIME_TABLES,
    SCORECARD_FILES,
)
from three_regime.system.files import holds

Contents = Mapping[str, pd.DataFrame | str]
"""File name → what the file should hold."""


def outdated(config: Config) -> list[Path]:
    """Every table of the planned studies and grids that does not follow from others and the settings.

    Raises
    ------
    UserError
        When a table they are computed from cannot be read.
    """
    tabled = (*planned(config), *load_grids(config))
    return [path for each in tabled for path in outdated_of(each)] + outdated_over_all(config)


def outdated_of(study: Study | LoadGrid) -> list[Path]:
    """Tables in the folder of a study or grid that do not follow from its other tables and the settings.

    Raises
    ------
    UserError
        When a table they are computed from cannot be read.
    """
    if isinstance(study, LoadGrid) and not is_current(study):
        return [study.folder / "cells.csv"]
    contents: dict[str, pd.DataFrame | str] = {}
    if _any(study.folder, [f"{name}.csv" for name in REGIME_TABLES]):
        tables = regime_tables.build(seed_means.read_cells(study.folder / "cells.csv"), study.thresholds)
        contents |= {f"{name}.csv": table for name, table in tables.items()}
    stated = study.config.claims if isinstance(study, Study) else ()
    if stated and _any(study.folder, CLAIM_FILES):
        contents |= zip(CLAIM_FILES, claims_files.of_folder(study.folder, stated, study.thresholds), strict=True)
    return differing(study.folder, contents)


def outdated_over_all(config: Config) -> list[Path]:
    """Case studies and scorecard, if they do not follow from the grids of the planned studies and the settings.

    Raises
    ------
    UserError
        When a grid cannot be read.
    """
    root, studies = Path(config.results), planned(config)
    grids = [study.table("grid") for study in studies]
    contents: dict[str, pd.DataFrame | str] = {}
    names = [f"{CASE_FOLDER}/{name}.csv" for name in CASE_TABLES]
    if grids and _any(root, names):
        thresholds = {study.name: study.thresholds for study in studies}
        tables = case_studies.of_files(grids, thresholds, family_names(studies), without_sam(studies))
        contents |= zip(names, tables.values(), strict=True)
    if _any(root, SCORECARD_FILES):
        contents |= zip(SCORECARD_FILES, scorecard_files.contents(scorecard.of_run(config, root)), strict=True)
    return differing(root, contents)


def _any(folder: Path, names: list[str] | tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def differing(folder: Path, contents: Contents) -> list[Path]:
    """The existing files in `folder` that hold something else than `contents`."""
    present = [name for name in contents if (folder / name).is_file()]
    return [folder / name for name in present if not holds(folder / name, contents[name])]
