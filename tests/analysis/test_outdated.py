"""Derived tables that no longer follow from the others are found; in archives of real studies none is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkout import ROOT

from three_regime.analysis import case_studies, claims_files, regime_tables
from three_regime.analysis.outdated import outdated
from three_regime.config import Config, load
from three_regime.study.grid import family_names, planned

ARCHIVES = ROOT / "reference/obtained"


def results(name: str, folder: Path) -> Config:
    """The tables of an archive as a results folder with every derived table of the present settings."""
    shutil.copytree(ARCHIVES / name, folder, ignore=shutil.ignore_patterns("figures", "*.safetensors"))
    config = load([folder / "config.yaml"]).model_copy(update={"results": str(folder)})
    studies = planned(config)
    for study in studies:
        regime_tables.write(study.folder, study.thresholds)
        claims_files.write(study.folder, study.config.claims, study.thresholds)
    grids = [study.table("grid") for study in studies]
    thresholds = {study.name: study.thresholds for study in studies}
    case_studies.write(folder / "case_studies", grids, thresholds, family_names(studies))
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "results"
    assert outdated(results("cifar10-cpu", folder)) == []
    return folder


def changed(path: Path) -> None:
    """Change the last digit of a table or page."""
    text = path.read_text()
    at = max(text.rfind(digit) for digit in "0123456789")
    path.write_text(text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :])


def test_altered_tables_are_found(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(whole, folder)
    names = ("selection_summary.csv", "sensitivity.csv", "claims.csv", "claims.md")
    altered = {folder / "cifar10-cpu" / name for name in names}
    altered |= {folder / name for name in ("case_studies/family.csv", "scorecard.csv", "scorecard.md")}
    for path in altered:
        changed(path)
    config = load([folder / "config.yaml"]).model_copy(update={"results": str(folder)})
    assert set(outdated(config)) == altered


def test_other_thresholds_make_what_depends_on_them_outdated(whole: Path) -> None:
    config = load([whole / "config.yaml"]).model_copy(update={"results": str(whole)})
    study = planned(config)[0].config
    other = study.model_copy(update={"regimes": study.regimes.model_copy(update={"lmc": -0.001})})
    found = {path.name for path in outdated(config.model_copy(update={"studies": {"cifar10-cpu": other}}))}
    assert {"regimes.csv", "selection.csv", "family.csv"} <= found and "grid.csv" not in found


def test_of_several_studies_none_need_be_planned(whole: Path) -> None:
    config = load([whole / "config.yaml"]).model_copy(update={"results": str(whole), "run": ()})
    assert {path.name for path in outdated(config)} <= {"scorecard.csv", "scorecard_cells.csv", "scorecard.md"}
