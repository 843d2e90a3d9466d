"""Scripts of the rules that build tables and figures, run as Snakemake runs them: each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from checkout import ROOT
from smooth_plane import THRESHOLDS, cells

DRIVER = """
import json, multiprocessing, runpy, sys
from types import SimpleNamespace
import three_regime.analysis.scorecard, three_regime.figures.explorer  # once, not in each process

class Named(list):
    def __init__(self, values):
        super().__init__(values.values())
        self.__dict__.update(values)

for script, given in json.loads(sys.argv[2]).items():
    parts = {part: Named(given.get(part, {})) for part in ("input", "output", "params")}
    snakemake = SimpleNamespace(config=given["config"], log=["log.txt"], **parts)
    arguments = f"{sys.argv[1]}/{script}.py", {"snakemake": snakemake}
    process = multiprocessing.get_context("fork").Process(target=runpy.run_path, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{script} failed")
"""
"""Runs scripts with a stand-in for the object `snakemake`, each in a process that has loaded no plugin."""


def page(name: str, title: str) -> str:
    """A block of the documentation."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    found = re.search(rf'^```python title="{re.escape(title)}"\n(.*?)^```$', text, flags=re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def run(folder: Path, scripts: Mapping[str, Mapping[str, Any]]) -> None:
    """Run scripts in `folder`, each with its config, params, input and output."""
    command = [sys.executable, "-c", DRIVER, str(ROOT / "scripts"), json.dumps(scripts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Plugins of the documentation, and cells of a study that uses their knob and their measure."""
    (tmp_path / "momentum.py").write_text(page("tutorials.md", "momentum.py"))
    norms = page("questions.md", "norms.py").replace("import torch\n", "")  # the scripts' environment lacks it
    (tmp_path / "norms.py").write_text(norms)
    table = cells("learning_rate", temperatures=(0.1, 0.5, 0.9), densities=(0.1, 0.8))
    table = table.assign(knob="momentum", norm=3 + table["temperature"])
    (tmp_path / "mine").mkdir()
    table.to_csv(tmp_path / "mine" / "cells.csv", index=False)
    keys = ["dense_seed", "temperature", "density"]
    pairs = table[[*keys, "lmc", "cka_softmax"]].assign(pair="1-2")
    pairs.to_csv(tmp_path / "mine" / "pairs.csv", index=False)
    replicas = pd.concat([table[[*keys, "test_error", "norm"]].assign(replica=replica) for replica in (1, 2)])
    replicas.to_csv(tmp_path / "mine" / "replicas.csv", index=False)
    return tmp_path


def test_tables_and_figures_know_the_plugins(folder: Path) -> None:
    config = {"plugins": ["momentum.py", "norms.py"]}
    limits = asdict(THRESHOLDS)
    sides = {"of": {"temperatures": [0.9]}, "against": {"temperatures": [0.1]}}
    claim = {"name": "norm", "statement": "Of norms.", "measure": "norm", **sides, "expect": "higher"}
    grid = {"grid": "mine/grid.csv"}
    given: dict[str, dict[str, Any]] = {
        "regimes": {"params": {"study": "smooth"}, "input": {"cells": "mine/cells.csv"}},
        "load_grid": {
            "params": {"grid": "wider", "load": "width", "density": 0.8, "loads": [1.0]},
            "input": {"cells": "mine/cells.csv"},
            "output": {"cells": "wider/cells.csv"},
        },
        "draw": {"params": {"folder": "mine", "figures": ["norm", "test_error"]}},
        "claims": {"params": {"study": "smooth", "claims": [claim]}, "output": {"csv": "mine/claims.csv"}},
        "case_studies": {
            "params": {"thresholds": {"smooth": limits}, "families": {"smooth": "digits"}, "plain": {}},
            "input": grid,
            "output": {"family": "case_studies/family.csv"},
        },
        "scorecard": {
            "params": {"settings": None},
            "input": {"grids": ["mine/grid.csv"]},
            "output": {"markdown": "scorecard.md"},
        },
        "build_explorer": {
            "params": {"thresholds": {"mine": limits}, "published": None},
            "output": {"page": "explorer.html"},
        },
    }
    for about in given.values():
        about["config"] = config
        about["params"].setdefault("thresholds", limits)
    run(folder, given)
    averaged = pd.read_csv(folder / "mine" / "grid.csv")
    assert averaged["norm"].tolist() == pytest.approx((3 + averaged["temperature"]).tolist())
    assert (folder / "mine" / "figures" / "norm.png").stat().st_size > 0
    assert pd.read_csv(folder / "mine" / "claims.csv")["outcome"].item() != "not run"
    assert set(pd.read_csv(folder / "wider" / "cells.csv")["knob"]) == {"momentum"}
    assert "dense momentum" in (folder / "explorer.html").read_text(encoding="utf-8")


def test_a_plugin_data_set_is_prepared(tmp_path: Path) -> None:
    """The recipe names it, so it is registered before the recipe is read."""
    (tmp_path / "stripes.py").write_text(page("tutorials.md", "stripes.py"))
    config = {"plugins": ["stripes.py"], "data": {"folder": "data"}, "studies": {}, "run": []}
    recipe = {"stage": "prepare", "version": 1, "dataset": "stripes"}
    run(tmp_path, {"prepare": {"config": config, "params": {"recipe": recipe}}})
    assert (tmp_path / "data" / "stripes.safetensors").is_file()
