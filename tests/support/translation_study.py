"""The study of ``config/tiny-translation.yaml`` in a test's folder, run by the library or the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from checkout import ROOT
from tiny_study import start

from three_regime.config import Config, load, merge, resolve
from three_regime.jobs.run import Outcome, run_job
from three_regime.preparation.prepare import prepare
from three_regime.study.grid import Study, study_named
from three_regime.study.products import pack
from three_regime.system.files import read_arrays, tensor_digest

NAME = "tiny-translation"
HELD_OUT = 4
"""Pairs of validation and of test that are measured."""


def mapping(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the configuration as plain data, with all paths in `folder` and keys of the study replaced."""
    whole = load([ROOT / "config.yaml", ROOT / "config" / "tiny-translation.yaml"]).model_dump(mode="json")
    whole |= {"results": str(folder / "results"), "device": "cpu", "data": {"folder": str(folder / "data")}}
    whole["studies"] = {NAME: merge(whole["studies"][NAME], changes)}
    return whole


def config(folder: Path, **changes: Any) -> Config:
    return resolve(mapping(folder, **changes))


def study_of(settings: Config) -> Study:
    return study_named(settings, NAME)


def prepared(settings: Config) -> Config:
    prepare(settings.studies[NAME].dataset, Path(settings.data.folder))
    return settings


def run(settings: Config, stage: str) -> list[Outcome]:
    temperatures = [None] if stage == "dense" else study_of(settings).temperatures
    return [run_job(settings, NAME, stage, 1, temperature) for temperature in temperatures]


def command(folder: Path, stage: str, **changes: Any) -> list[str]:
    """Arguments of ``python -m three_regime run-stage``; a state is saved after nearly every step."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**mapping(folder, **changes), "state_every_s": 0.01}))
    return [sys.executable, "-m", "three_regime", "run-stage", stage, "--base", str(path)]


def finish(arguments: list[str]) -> str:
    """Run to a successful end; return the log. On a loaded machine the imports alone take minutes."""
    process = start(arguments)
    log = process.communicate(timeout=600)[1]
    assert process.returncode == 0, log
    return log


def digests(settings: Config, stage: str) -> dict[str, str]:
    """Weights file → digest of its tensors, computed from them."""
    paths = [p.outputs[-1] for t in study_of(settings).temperatures for p in pack(study_of(settings), stage, 1, t)]
    return {str(path.relative_to(settings.results)): tensor_digest(read_arrays(path)) for path in paths}
