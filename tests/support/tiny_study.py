"""The smallest study on digits, in any folder, with helpers that run its stages in this or another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from checkout import ROOT

from three_regime.config import Config, merge, resolve
from three_regime.jobs.run import Outcome, run_job
from three_regime.preparation.prepare import prepare
from three_regime.study.grid import Study, study_named
from three_regime.study.products import Product, pack
from three_regime.system.files import read_arrays, tensor_digest

NAME = "tiny"

TINY: dict[str, Any] = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())["studies"]["tiny"]
TRAINING: dict[str, Any] = {"epochs": 2, "milestones": [1]}

STUDY: dict[str, Any] = {
    **{key: value for key, value in TINY.items() if key not in ("claims", "resources")},
    "dataset": {"name": "digits", "train_images": 200, "test_images": 100},
    "temperatures": [1, 2],
    "lockstep": 32,  # packs, as on a GPU: `auto` would choose the CPU engine (tests/tasks/images/test_sparse.py)
    "dense": {**TRAINING},  # mappings of their own: tests change one of them
    "retrain": {**TRAINING},
    "measure": {"train_images": 128, "cka_images": 64, "last_epochs": 2, "points": 3},
}
"""The study of ``config/tiny.yaml``, made smaller."""


def mapping(folder: Path, *, top: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the configuration as plain data: `changes` override the study, `top` the whole."""
    whole = {
        "results": str(folder / "results"),
        "run": [NAME],
        "device": "cpu",
        "threads": 1,
        "state_every_s": 3600,
        "data": {"folder": str(folder / "data")},
        "studies": {NAME: merge(STUDY, changes)},
    }
    return merge(whole, top or {})


def config(folder: Path, *, top: dict[str, Any] | None = None, **changes: Any) -> Config:
    """The resolved configuration, with its data prepared."""
    prepare("digits", folder / "data")
    return resolve(mapping(folder, top=top, **changes))


def study_of(settings: Config) -> Study:
    return study_named(settings, NAME)


def run(settings: Config, stage: str, seed: int = 1) -> Outcome:
    """Run every job of a stage and dense seed; return the sum of their outcomes."""
    one_run = stage == "dense" and settings.studies[NAME].knob == "epochs"
    outcomes = [
        run_job(settings, NAME, stage, seed, temperature)
        for temperature in ([None] if one_run else study_of(settings).temperatures)
    ]
    return Outcome(sum(each.computed for each in outcomes), sum(each.kept for each in outcomes))


def run_to(settings: Config, stage: str) -> Outcome:
    """Run all stages up to `stage`; return the outcome of the last."""
    for name in ("dense", "prune", "retrain", "lmc", "cka"):
        outcome = run(settings, name)
        if name == stage:
            return outcome
    raise ValueError(stage)


def products(settings: Config, stage: str, seed: int = 1) -> list[Product]:
    return [
        product
        for temperature in study_of(settings).temperatures
        for product in pack(study_of(settings), stage, seed, temperature)
    ]


ALL = ("dense", "prune", "retrain", "lmc", "cka")
TOTALS = {"dense": 2, "prune": 4, "retrain": 8, "lmc": 4, "cka": 4}
"""Products of each stage of the smallest study."""


def compute_all(folder: Path) -> Path:
    """Bring every stage of the study in `folder` up to date; return `folder`."""
    settings = config(folder)
    assert {stage: run(settings, stage) for stage in ALL} == {stage: Outcome(TOTALS[stage], 0) for stage in ALL}
    return folder


def files(settings: Config, *names: str) -> list[Path]:
    """The output files of these stages, or of all."""
    return [path for stage in names or ALL for product in products(settings, stage) for path in product.outputs]


def digests(settings: Config, stage: str) -> dict[str, str]:
    """Weights file → digest of its tensors, computed from them."""
    paths = [product.outputs[-1] for product in products(settings, stage)]
    return {str(path.relative_to(settings.results)): tensor_digest(read_arrays(path)) for path in paths}


def command(folder: Path, stage: str, *options: str, top: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """Arguments of ``python -m three_regime run-stage`` for this configuration."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(mapping(folder, top=top, **changes)))
    return [sys.executable, "-m", "three_regime", "run-stage", stage, "--base", str(path), *options]


def start(arguments: list[str], **options: Any) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT, **options)


def finish(arguments: list[str]) -> str:
    """Run to a successful end; return the log."""
    process = start(arguments)
    log = process.communicate(timeout=120)[1]
    assert process.returncode == 0, log
    return log
