"""Loading tables in a notebook."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkout import ROOT

import three_regime
from three_regime.errors import UserError

ARCHIVE = ROOT / "reference" / "obtained" / "cifar10-cpu"


def test_every_table_says_which_study_its_rows_are_of() -> None:
    found = three_regime.load_results(ARCHIVE)
    assert {"cells", "replicas", "pairs", "lines", "grid", "regimes", "selection", "claims", "scorecard"} <= set(found)
    for name in ("cells", "replicas", "pairs", "lines", "sparsity", "grid", "regimes", "claims"):
        assert set(found[name]["study"]) == {"cifar10-cpu"}
    assert len(found["cells"]) == 27 and len(found["pairs"]) == len(found["cells"]) * 3


def test_studies_stand_one_below_the_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(ARCHIVE / "cifar10-cpu", tmp_path / name, ignore=shutil.ignore_patterns("figures"))
    found = three_regime.load_results(tmp_path)
    assert found["pairs"]["study"].value_counts().to_dict() == {"one": 81, "two": 81}
    alone = three_regime.load_results(tmp_path / "one")
    assert len(alone["pairs"]) == 81


def test_the_published_figure_has_a_study_of_its_own(tmp_path: Path) -> None:
    for name in ("own", "published"):
        shutil.copytree(ARCHIVE / "cifar10-cpu", tmp_path / name, ignore=shutil.ignore_patterns("figures"))
    found = three_regime.load_results(tmp_path)
    assert found["cells"]["study"].value_counts().to_dict() == {"cifar10-cpu": 27, "published": 27}


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no cells\.csv"):
        three_regime.load_results(tmp_path)
    with pytest.raises(AttributeError):
        _ = three_regime.load_nothing
