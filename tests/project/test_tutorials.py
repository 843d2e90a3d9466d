"""Every code block of the tutorials is executed unchanged."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from click.testing import CliRunner, Result

from three_regime.cli import main
from three_regime.config.knobs import KNOBS
from three_regime.config.plugins import load as load_plugins
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.models.families import FAMILIES
from three_regime.pruning.criteria import CRITERIA, Known
from three_regime.random_streams import Streams

PAGE = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Remove the entries registered by plugins after each test."""
    before = {id(registry): dict(registry) for registry in (DATASETS, FAMILIES, KNOBS, CRITERIA)}
    yield
    for registry in (DATASETS, FAMILIES, KNOBS, CRITERIA):
        for name in set(registry) - set(before[id(registry)]):
            del registry[name]
    for name in ("stripes", "plain", "momentum", "smallest", "broken_plugin"):
        sys.modules.pop(name, None)


def command(folder: Path, *arguments: str) -> Result:
    with contextlib.chdir(folder):
        return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the steps of the page were followed."""
    found = tmp_path_factory.mktemp("tutorials")
    assert set(BLOCKS) == {"config/mine.yaml", "stripes.py", "plain.py", "momentum.py", "smallest.py"}
    for name, text in BLOCKS.items():
        path = found / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return found


MINE = ("--base", str(ROOT / "config.yaml"), "--configfile", "config/mine.yaml")


def test_the_study_of_the_page_runs_to_its_tables(folder: Path) -> None:
    """Run the plugins' data set, model and knob from preparation to regimes on the command line."""
    priced = command(folder, "plan", *MINE)
    assert priced.exit_code == 0, priced.output
    assert "stripes-by-momentum" in priced.output and "?" not in priced.output
    for stage in ("prepare", "dense", "prune", "retrain", "lmc", "cka", "tables"):
        ran = command(folder, "run-stage", stage, *MINE)
        assert ran.exit_code == 0, ran.output
    study = folder / "results" / "mine" / "stripes-by-momentum"
    assert {path.name for path in (study / "seed1").iterdir()} >= {"momentum0p8", "momentum0p9"}
    cells = pd.read_csv(study / "cells.csv")
    assert sorted(set(cells["temperature"])) == [0.8, 0.9] and len(cells) == 4
    assert cells["dense_test_error"].max() < 0.2, "stripes are learnt"


def test_without_its_plugins_the_study_is_refused(folder: Path) -> None:
    text = BLOCKS["config/mine.yaml"].replace("plugins: [stripes.py, plain.py, momentum.py]\n", "")
    (folder / "config" / "bare.yaml").write_text(text)
    refused = command(folder, "plan", "--base", str(ROOT / "config.yaml"), "--configfile", "config/bare.yaml")
    assert refused.exit_code == 2 and "unknown data set 'stripes'" in refused.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nosuch_module", "broken_plugin.py cannot be imported: ModuleNotFoundError"),
        ("1/0", "broken_plugin.py cannot be imported: ZeroDivisionError"),
        (BLOCKS["momentum.py"].replace('name="momentum"', 'name="epochs"'), "a knob named epochs exists already"),
        (None, "broken_plugin.py does not exist"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plugin_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("broken_plugin.py").write_text(text)
    with pytest.raises(UserError, match=said):
        load_plugins(["broken_plugin.py"])
    assert "broken_plugin" not in sys.modules


def test_a_plugin_named_like_another_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("json.py").write_text("")
    with pytest.raises(UserError, match=r"json\.py has the name of another module"):
        load_plugins(["json.py"])


def test_the_criterion_of_the_page_keeps_the_smallest(folder: Path) -> None:
    with contextlib.chdir(folder):
        load_plugins(["smallest.py"])
    weights = {"fc.weight": np.array([[0.1, -2.0], [-0.3, 1.0]])}
    scores = CRITERIA["smallest"].score(Known(weights, Streams(("dense", 1))))["fc.weight"]
    assert scores.ravel().argsort()[::-1].tolist() == [0, 2, 3, 1]
