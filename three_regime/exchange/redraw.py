"""Rebuild everything derived from the tables of an export: regimes, claims, scorecard, figures, explorer.

Does not need torch, so an archived study (``reference/obtained``) can be checked on a laptop.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from three_regime import figures
from three_regime.analysis import (
    case_studies,
    claims_files,
    regime_tables,
    scorecard,
    scorecard_files,
    seed_means,
    tables,
)
from three_regime.analysis.load_grids import write_tables
from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.exchange import research_object
from three_regime.exchange.export import CURVES, MANIFEST, write_manifest
from three_regime.exchange.exported_settings import read_settings
from three_regime.exchange.research_object import PROVENANCE
from three_regime.figures import explorer
from three_regime.study import provenance
from three_regime.study.grid import Study, family_names, planned, without_sam
from three_regime.study.load_grids import load_grids
from three_regime.study.outputs import CASE_FOLDER, EXPLORER_FILE, PLUGINS, SCORECARD_FILES, SETTINGS_FILE
from three_regime.system import manifest
from three_regime.system.files import disk_errors, read_json, read_table, write_csv

log = logging.getLogger(__name__)


def redraw(folder: Path, out: Path) -> Path:
    """Rebuild everything derived from the cells of an unpacked export.

    Parameters
    ----------
    folder
        An export (`export.export`); it is not modified.
    out
        New folder, again an export: the provenance is copied, and the manifest names the commit of the original. It is
        described by ``ro-crate-metadata.json`` if the original holds the Snakefile of that commit, or this checkout
        knows it.

    Raises
    ------
    UserError
        When `out` exists, or `folder` is not an export, lacks a table, or contains altered files. Then nothing is
        written.
    """
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out or remove it")
    config = read_settings(folder)
    studies = planned(config)
    for study in studies:
        _check_study(folder / study.name, study)
    manifest.check(folder)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as staging:
            made = Path(staging) / out.name
            try:
                _fill(folder, made, config, studies)
            except UserError as error:  # report errors in the copy as errors in its source
                raise UserError(str(error).replace(str(made), str(folder))) from error
            made.rename(out)
    return out


def _fill(folder: Path, out: Path, config: Config, studies: list[Study]) -> None:
    out.mkdir()
    for study in studies:
        log.info("%s: tables and figures", study.name)
        _study(folder / study.name, out / study.name, study)
    grids = load_grids(config)
    for grid in grids:
        figures.draw(write_tables(grid, out), grid.figures, grid.thresholds)
    shutil.copyfile(folder / SETTINGS_FILE, out / SETTINGS_FILE)
    if (folder / CASE_FOLDER).is_dir():
        compared = [out / study.name / "grid.csv" for study in studies]
        thresholds = {study.name: study.thresholds for study in studies}
        case_studies.write(out / CASE_FOLDER, compared, thresholds, family_names(studies), without_sam(studies))
    if (folder / SCORECARD_FILES[0]).is_file():
        scorecard_files.write(out, scorecard.of_run(config, out))
    if (folder / PROVENANCE).is_file():
        shutil.copyfile(folder / PROVENANCE, out / PROVENANCE)
    if (folder / PLUGINS).is_dir():
        shutil.copytree(folder / PLUGINS, out / PLUGINS)
    folders = {out / each.name: each.thresholds for each in (*studies, *grids)}
    explorer.write(out / EXPLORER_FILE, folders, config.regimes.thresholds if config.published else None)
    origin = _commit_of(folder)
    if research_object.copy_workflow(out, folder, origin or ""):
        agent = research_object.stated_agent(folder)
        research_object.write(out, agent=agent, commit=origin or "", redrawn_with=provenance.commit())
    write_manifest(out, config.run, redrawn_from=origin)


def _check_study(source: Path, study: Study) -> None:
    """Raise if the cells belong to another study than the settings."""
    names = set(seed_means.read_cells(source / "cells.csv")["study"])
    if other := sorted(names - {study.name}):
        raise UserError(f"{source / 'cells.csv'} is a table of study {other[0]!r}, but config.yaml runs {study.name}")


def _commit_of(folder: Path) -> str | None:
    """The commit that exported the results first, also after several redraws."""
    path = folder / MANIFEST
    about = read_json(path) if path.is_file() else {}
    return about.get("redrawn_from") or about.get("commit")


def _study(source: Path, target: Path, study: Study) -> None:
    target.mkdir(parents=True)
    copies = {f"{name}.csv": source / f"{name}.csv" for name in study.cell_tables} | {"curves.csv": source / CURVES}
    for name, path in copies.items():
        if path.is_file():
            shutil.copyfile(path, target / name)
    _complete(target)
    regime_tables.write(target, study.thresholds)
    if study.config.claims:
        claims_files.write(target, study.config.claims, study.thresholds)
    figures.draw_all(target, study.thresholds, study.figures)
    # As in an export, where the plotted data are beside the figure.
    (target / "curves.csv").unlink(missing_ok=True)


def _complete(folder: Path) -> None:
    """Add columns that an older export lacks and that follow from its other tables."""
    paths = [folder / f"{name}.csv" for name in ("cells", "pairs", "lines")]
    if all(path.is_file() for path in paths):
        old = [read_table(path) for path in paths]
        for path, before, after in zip(paths, old, tables.with_middle(*old), strict=False):
            if after is not before:
                write_csv(path, after)
