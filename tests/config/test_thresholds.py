"""Thresholds of a study: where they are set, what they override, and where they are used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import ROOT
from finished import FILES, NAME, copied, inside
from tiny_study import mapping

from three_regime import figures
from three_regime.analysis import figure2, scorecard
from three_regime.config import load, resolve
from three_regime.config.regimes import Regimes
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.exchange import redraw
from three_regime.jobs.without_snakemake import run_stage
from three_regime.planning import plan
from three_regime.planning.plan_table import render
from three_regime.study.grid import planned, study_named
from three_regime.system.files import write_csv

ARCHIVE = ROOT / "reference" / "obtained" / "cifar10-cpu"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, Thresholds(lmc=-0.3, cka=0.8)),
        ({"lmc": -0.05}, Thresholds(lmc=-0.05, cka=0.8)),
        ({"cka": 0.9}, Thresholds(lmc=-0.3, cka=0.9)),
        ({"lmc": -0.05, "cka": None}, Thresholds(lmc=-0.05, cka=0.8)),
        ({"lmc": -0.05, "cka": 0.9}, Thresholds(lmc=-0.05, cka=0.9)),
    ],
)
def test_either_threshold_or_both_override_those_of_the_run(tmp_path, own, expected):
    config = resolve(mapping(tmp_path, top={"regimes": {"lmc": -0.3, "cka": 0.8}}, regimes=own))
    assert study_named(config, "tiny").thresholds == expected
    assert planned(resolve(config.model_dump(mode="json")))[0].thresholds == expected, "as an export writes it"


def test_the_defaults_stand_once():
    assert Regimes().thresholds == Thresholds()


@pytest.mark.parametrize(
    ("run", "own", "inherited"),
    [
        ({}, {}, "cifar10"),
        ({}, {"lmc": -0.05}, "cifar10"),
        ({}, {"lmc": -0.12, "cka": 0.99}, "cifar10"),
        ({}, {"lmc": -0.05, "cka": 0.9}, ""),
        ({"lmc": -0.02, "cka": 0.97}, {}, ""),
        ({"lmc": -0.02, "cka": 0.97, "dataset": "digits"}, {}, ""),
        ({"lmc": -0.02, "cka": 0.97, "dataset": "svhn"}, {}, "svhn"),
        ({"lmc": -0.02, "cka": 0.97, "dataset": "svhn"}, {"lmc": -0.05, "cka": 0.9}, ""),
        ({"lmc": -0.02}, {}, "cifar10"),
    ],
)
def test_a_study_knows_whose_thresholds_it_inherits(tmp_path, run, own, inherited):
    config = resolve(mapping(tmp_path, top={"regimes": run}, regimes=own))
    assert config.studies["tiny"].dataset.name == "digits"
    assert study_named(config, "tiny").thresholds.inherited == inherited


def test_plan_names_thresholds_of_another_data_set(tmp_path):
    def said(run: dict) -> str:
        return render(plan.make(resolve(mapping(tmp_path, top={"regimes": run})), ["tables"], None))

    assert "The regimes of tiny are separated by thresholds set for cifar10" in said({})
    assert "set for" not in said({"lmc": -0.02, "cka": 0.97})


def test_a_data_set_that_thresholds_were_set_for_must_exist(tmp_path):
    with pytest.raises(UserError, match=r"regimes\.dataset: unknown dataset 'digit'; did you mean 'digits'"):
        resolve(mapping(tmp_path, top={"regimes": {"dataset": "digit"}}))


def test_translation_does_not_take_those_of_images_silently():
    for name, study_ in load([ROOT / "config.yaml"]).studies.items():
        text = study_.dataset.entry.kind == "text"
        assert (None not in study_.regimes.model_dump().values()) == text, name


def labels(folder: Path) -> pd.Series:
    return pd.read_csv(folder / "regimes.csv")["regime"]


def test_tables_without_snakemake_use_them(finished_tiny, tmp_path, monkeypatch):
    own = copied(finished_tiny, tmp_path / "checkout")
    drawn = {}
    monkeypatch.setattr(figures, "draw", lambda folder, names, thresholds: drawn.update({folder: thresholds}) or [])
    with inside(own):
        lmc = pd.read_csv(f"results/tiny/{NAME}/cells.csv")["lmc"]
        between = Thresholds(lmc=float(lmc.median()), cka=0.5)
        assert between.lmc < 0, "the tiny study's networks lie apart"
        Path("own.yaml").write_text(yaml.safe_dump({"studies": {NAME: {"regimes": {"lmc": between.lmc, "cka": 0.5}}}}))
        for files, expected in (([*FILES, Path("own.yaml")], between), (FILES, Thresholds(inherited="cifar10"))):
            run_stage("tables", files)
            folder = Path(f"results/tiny/{NAME}")
            assert ((labels(folder) == "I") == (lmc < expected.lmc)).all()
            assert drawn[folder] == expected


def archive(folder, changed, own):
    """The archive with other settings, and with the study's own thresholds or, as once, without the key."""
    shutil.copytree(ARCHIVE, folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text()) | changed
    del settings["studies"]["cifar10-cpu"]["regimes"]
    if own is not None:
        settings["studies"]["cifar10-cpu"]["regimes"] = own
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "manifest.json").unlink()  # it would name the altered settings
    return folder


def test_an_export_is_redrawn_with_them(tmp_path, monkeypatch):
    """Also an archive that was made before a study could have any: there the run's apply."""
    drawn = []
    monkeypatch.setattr(figures, "draw_all", lambda folder, thresholds, names: drawn.append(thresholds))
    older = {"regimes": {"lmc": -0.033, "cka": 0.95}}
    redraw.redraw(archive(tmp_path / "older", older, own=None), tmp_path / "before")
    redraw.redraw(archive(tmp_path / "newer", older, own={"lmc": -0.001}), tmp_path / "again")
    assert drawn == [Thresholds(lmc=-0.033, cka=0.95), Thresholds(lmc=-0.001, cka=0.95)]
    before = labels(tmp_path / "before" / "cifar10-cpu")
    after = labels(tmp_path / "again" / "cifar10-cpu")
    assert (after == "I").sum() > (before == "I").sum()


@pytest.mark.parametrize(("own", "agrees"), [({}, False), ({"lmc": None}, False), ({"lmc": -0.12, "cka": 0.99}, True)])
def test_an_exports_scorecard_uses_its_figure_2_thresholds(tmp_path, own, agrees):
    name = figure2.FIGURE2_STUDY
    (tmp_path / name).mkdir()
    write_csv(tmp_path / name / "cells.csv", figure2.as_cells(figure2.load()).assign(study=name, origin="computed"))
    settings = {"regimes": {"lmc": -0.9, "cka": 0.5, "dataset": None}, "studies": {name: {"regimes": own}, "other": {}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    rows = scorecard.of_export(tmp_path).headline.set_index("measure")["value"]
    assert (rows["agreement, Regime I against the rest, as drawn"] > 0.9) == agrees


def test_thresholds_that_an_older_export_lacks_are_the_defaults(tmp_path):
    name = figure2.FIGURE2_STUDY
    (tmp_path / name).mkdir()
    write_csv(tmp_path / name / "cells.csv", figure2.as_cells(figure2.load()).assign(study=name, origin="computed"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"regimes": {"lmc": -0.12}, "studies": {name: {}}}))
    rows = scorecard.of_export(tmp_path).headline.set_index("measure")["value"]
    assert rows["agreement, Regime I against the rest, as drawn"] > 0.9
