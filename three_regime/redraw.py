"""Everything that follows from the tables of an export, made again elsewhere: regimes, claims, scorecard, figures.

Torch is not needed, so that a laptop can check an archived study (``reference/obtained``).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from three_regime import (
    analysis,
    case_studies,
    claims,
    figures,
    manifest,
    scorecard,
    scorecard_files,
    statistics,
    tables,
)
from three_regime.config import Config, load
from three_regime.errors import UserError
from three_regime.export import MANIFEST, PROVENANCE, write_manifest
from three_regime.stages import CELL_TABLES, SCORECARD_FILES
from three_regime.storage import disk_errors, read_json, read_table, write_csv
from three_regime.study import Study, planned

CURVES = Path("figures/training_curves.csv")
"""The one copy of ``curves.csv`` in an export."""


def redraw(folder: Path, out: Path) -> Path:
    """Make everything again that follows from the cells of an unpacked export.

    Parameters
    ----------
    folder
        What `export.export` wrote; it is not changed.
    out
        New folder, an export itself: the provenance is copied, and the manifest says from which export it was made.

    Raises
    ------
    UserError
        When `out` exists, or `folder` is no export, lacks a table, or holds files that are not those that were packed.
        Nothing is left behind then.
    """
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out or remove it")
    config = read_settings(folder)
    owners = planned(config)
    for owner in owners:
        _check_study(folder / owner.name, owner)
    manifest.check(folder)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as staging:
            made = Path(staging) / out.name
            try:
                _fill(folder, made, config, owners)
            except UserError as error:  # what is wrong with a copy is wrong with its source
                raise UserError(str(error).replace(str(made), str(folder))) from error
            made.rename(out)
    return out


def _fill(folder: Path, out: Path, config: Config, owners: list[Study]) -> None:
    out.mkdir()
    for owner in owners:
        _study(folder / owner.name, out / owner.name, owner)
    shutil.copyfile(folder / "config.yaml", out / "config.yaml")
    if (folder / "case_studies").is_dir():
        grids = [out / owner.name / "grid.csv" for owner in owners]
        thresholds = {owner.name: owner.thresholds for owner in owners}
        case_studies.write(out / "case_studies", grids, thresholds)
    if (folder / SCORECARD_FILES[0]).is_file():
        scorecard_files.write(out, scorecard.of_export(out))
    if (folder / PROVENANCE).is_file():
        shutil.copyfile(folder / PROVENANCE, out / PROVENANCE)
    write_manifest(out, config.run, redrawn_from=_commit_of(folder))


def _check_study(source: Path, owner: Study) -> None:
    """Refuse cells of another study than the settings are of."""
    names = set(statistics.read_cells(source / "cells.csv")["study"])
    if other := sorted(names - {owner.name}):
        raise UserError(
            f"{source / 'cells.csv'} is a table of the study {other[0]!r}, but config.yaml runs {owner.name}"
        )


def _commit_of(folder: Path) -> str | None:
    """The commit that made the results of an export, through however many redrawings."""
    path = folder / MANIFEST
    about = read_json(path) if path.is_file() else {}
    return about.get("redrawn_from") or about.get("commit")


def read_settings(folder: Path) -> Config:
    """The settings of an export.

    Raises
    ------
    UserError
        When the folder holds no valid ``config.yaml``.
    """
    return load([folder / "config.yaml"])


def _study(source: Path, target: Path, owner: Study) -> None:
    target.mkdir(parents=True)
    copies = {f"{name}.csv": source / f"{name}.csv" for name in CELL_TABLES} | {"curves.csv": source / CURVES}
    for name, path in copies.items():
        if path.is_file():
            shutil.copyfile(path, target / name)
    _complete(target)
    analysis.write(target, owner.thresholds)
    if owner.config.claims:
        claims.write(target, owner.config.claims, owner.thresholds)
    figures.draw_all(target, owner.thresholds)
    # As in an export: what is drawn of it lies beside its figure.
    (target / "curves.csv").unlink(missing_ok=True)


def _complete(folder: Path) -> None:
    """Add to the tables of an older export what can be computed from its others."""
    paths = [folder / f"{name}.csv" for name in ("cells", "pairs", "lines")]
    if all(path.is_file() for path in paths):
        old = [read_table(path) for path in paths]
        for path, before, after in zip(paths, old, tables.with_middle(*old), strict=False):
            if after is not before:
                write_csv(path, after)
