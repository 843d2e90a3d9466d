"""The targets of the Makefile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=cwd, env=clean, capture_output=True, text=True, timeout=60)


def phony() -> set[str]:
    line, _ = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return set(line.split())  # the second line: what others need first


@pytest.mark.parametrize("arguments", [["help"], []])
def test_help_lists_every_target(arguments: list[str]) -> None:
    lines = make(*arguments).stdout.splitlines()
    listed = {line.split()[0] for line in lines if line.startswith("  ") and len(line.split()) > 2}
    assert phony() <= listed
    assert {"demo", "test"} <= phony()


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_make_the_environment_first(target: str) -> None:
    planned = make("-n", target).stdout
    assert planned.index("envs/install.py") < planned.index('".venv/bin/python" -m')
    elsewhere = make("-n", target, "VENV=/scratch/my env").stdout
    assert 'envs/install.py "/scratch/my env"' in elsewhere
    assert '"/scratch/my env/bin/python" -m' in elsewhere
    assert ".venv" not in elsewhere


@pytest.mark.parametrize("target", ["run", "dryrun"])
def test_without_a_preset_the_presets_and_their_price_are_shown(tmp_path: Path, target: str) -> None:
    for name in ("Makefile", "config", "benchmarks/plans"):
        source, copy = ROOT / name, tmp_path / name
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    ended = make(target, cwd=tmp_path)
    assert ended.returncode
    listed = {line.split()[0].rstrip("*"): line for line in ended.stdout.splitlines() if line.strip()}
    assert {path.stem for path in (ROOT / "config").glob("*.yaml")} < set(listed)
    assert float(listed["figure2"].split()[1].replace(",", "")) > 1000
    assert "Nothing was started" in ended.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("target", ["run", "dryrun", "slurm"])
def test_a_preset_that_does_not_exist_is_one_sentence(tmp_path: Path, target: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/figure2.yaml").touch()
    ended = make(target, "PRESET=nosuch", cwd=tmp_path)
    assert ended.returncode
    sentence, _ = ended.stderr.splitlines()  # and make's own
    assert sentence == "There is no preset 'nosuch' (config/nosuch.yaml); there are: figure2"


def test_a_misspelt_profile_starts_nothing(tmp_path: Path) -> None:
    """Snakemake would ask for cores, and a study would run on the login node."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("default", "slurm"):
        (tmp_path / "profiles" / name).mkdir(parents=True)
    ended = make("slurm", "PROFILE=slurmm", cwd=tmp_path)
    sentence, _ = ended.stderr.splitlines()
    assert sentence == "There is no profile 'slurmm' (profiles/slurmm); there are: slurm"


def test_a_dryrun_installs_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/demo.yaml").touch()
    ended = make("dryrun", "PRESET=demo", cwd=tmp_path)
    assert ended.returncode
    assert "There is no environment in .venv yet: make env" in ended.stderr
    assert not (tmp_path / ".venv").exists()


def test_clean_touches_neither_results_nor_data_nor_environment(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = [
        "results/demo/cells.csv",
        "results/.state/run.safetensors",
        "results/__pycache__/kept",
        "data/raw/cifar10/archive.tar.gz",
        "offline/archive.tar.gz",
        ".venv/lib/__pycache__/module.pyc",
        ".snakemake/metadata/file",
        "three_regime/system/files.py",
    ]
    removed = [
        "three_regime/jobs/__pycache__/a.pyc",
        ".pytest_cache/v",
        ".ruff_cache/v",
        "three_regime.egg-info/PKG-INFO",
    ]
    for name in kept + removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert make("clean", cwd=tmp_path).returncode == 0
    assert [name for name in kept + removed if (tmp_path / name).exists()] == kept


def test_without_python_make_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    ended = make("env", "PYTHON=/nowhere/python3", cwd=tmp_path)
    assert ended.returncode
    assert "No Python 3.11" in ended.stderr
    assert "/nowhere/python3" in ended.stderr
