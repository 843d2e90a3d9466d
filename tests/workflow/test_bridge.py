"""Snakemake and the command line read the same configuration, whichever flags set it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from checkout import copy_to
from tiny_study import mapping

from three_regime.config import load
from three_regime.errors import UserError
from three_regime.workflow import running
from three_regime.workflow.arguments import joined


def snakemakes(folder: Path, *given: Path, replace: bool = False, main: bool = True, **config: Any) -> SimpleNamespace:
    """What a Snakefile sees of Snakemake, with a declared ``config.yaml`` and these files and values laid over it."""
    declared = folder / "config.yaml"
    declared.write_text(yaml.safe_dump(mapping(folder)))
    settings = SimpleNamespace(configfiles=list(given), config=config, replace_workflow_config=replace)
    return SimpleNamespace(config_settings=settings, configfiles=[*given, declared], is_main_process=main)


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_the_files_are_read_by_the_projects_own_reader(tmp_path):
    first = written(tmp_path, "a.yaml", "studies: {tiny: {lockstep: off, densities: [0.1]}}\nthreads: 3\n")
    second = written(tmp_path, "b.yaml", "studies: {tiny: {densities: [0.2, 1e-1]}}\n")
    seen = {"threads": "what Snakemake read"}
    config = running.read_config(snakemakes(tmp_path, first, second), seen)
    assert config == load([tmp_path / "config.yaml", first, second])
    assert (config.threads, config.studies["tiny"].lockstep, config.studies["tiny"].densities) == (3, "off", (0.2, 0.1))
    assert (seen["threads"], seen["studies"]["tiny"]["lockstep"]) == (3, "off"), "scripts see it too"


def test_values_of_the_command_line_have_the_last_word(tmp_path):
    """Snakemake hands on nested ones as text."""
    nested = {"tiny": {"densities": ["0.25"], "lockstep": "off", "dense": {"drop_last": "yes", "epochs": "4"}}}
    found = running.read_config(snakemakes(tmp_path, studies=nested, threads=4, published="no"), {})
    study = found.studies["tiny"]
    assert (study.densities, study.lockstep, study.dense.drop_last, study.dense.epochs) == ((0.25,), "off", True, 4)
    assert (found.threads, found.published) == (4, False)
    for wrong in ({"threads": "yes"}, {"threads": True}, {"threads": 1.0}, {"data": {"mirrors": {"cifra10": []}}}):
        with pytest.raises(UserError, match="^config.(threads|data.mirrors): ") as refused:
            running.read_config(snakemakes(tmp_path, **wrong), {})
        assert "threads" not in wrong or "config.yaml" not in str(refused.value), "it was not written there"


@pytest.mark.parametrize("content", ["threads: 1\nthreads: 2\n", "threads: 0o10\n", "results: '{seed}'\n"])
def test_plain_snakemake_refuses_what_the_command_line_does(tmp_path, content):
    odd = written(tmp_path, "odd.yaml", content)
    with pytest.raises(UserError, match=r"odd\.yaml, line"):
        running.read_config(snakemakes(tmp_path, odd, main=False), {})


def test_the_base_may_be_replaced(tmp_path):
    whole = written(tmp_path, "whole.yaml", yaml.safe_dump(mapping(tmp_path, top={"threads": 5})))
    declared = {"kernels": "plain"}
    seen = snakemakes(tmp_path, whole, replace=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(declared))
    assert running.read_config(seen, {}).kernels == "auto"


@pytest.mark.parametrize(
    "arguments",
    ["--configfile a --configfile b", "--configfile=a -n --configfiles b c", "-C a=1 --config b=2", "-Ca=1 -C b=2"],
)
def test_a_flag_given_twice_is_refused_by_plain_snakemake(tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["snakemake", *arguments.split()])
    with pytest.raises(UserError, match="--config(file)? is given twice"):
        running.read_config(snakemakes(tmp_path), {})
    assert running.read_config(snakemakes(tmp_path, main=False), {}), "jobs are Snakemake's own commands"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("-n data", "-n data"),
        ("--configfile a b -n", "-n --configfile a b"),
        ("--configfile a --configfiles b -n", "-n --configfile a b"),
        ("--configfile=a -n --configfile b -- data --configfile c", "-n --configfile a b -- data --configfile c"),
        ("-C x=1 --config y=2 z=3 -c 2", "-c 2 --config x=1 y=2 z=3"),
        ("-Cx=1 --config=y=2 --cores 1", "--cores 1 --config x=1 y=2"),
        ("--configfile ~/a", "--configfile HOME/a"),
    ],
)
def test_the_wrapper_lays_all_files_over_each_other(monkeypatch, given, meant):
    monkeypatch.setenv("HOME", "HOME")
    assert joined(given.split()) == meant.split()


def test_a_whole_start_takes_both_files(tmp_path):
    """Through Snakemake itself: what its reader takes for a boolean is a word, and the first file counts."""
    checkout = copy_to(tmp_path / "checkout")
    odd = written(tmp_path, "odd.yaml", "studies: {tiny: {lockstep: off, temperatures: [4]}}\n")
    planned = checkout.planned("--configfile", "config/tiny.yaml", "--configfile", str(odd))
    assert planned["retrain_tiny"] == 1
