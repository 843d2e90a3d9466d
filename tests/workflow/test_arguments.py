"""Workflow arguments inspected before Snakemake starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkout import ROOT
from click.testing import CliRunner

from three_regime.cli import main
from three_regime.errors import UserError
from three_regime.workflow import command
from three_regime.workflow.arguments import configfiles, located, targets_of


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("tables", ["config.yaml"]),
        ("--configfile config/tiny.yaml -- tables", ["config.yaml", "config/tiny.yaml"]),
        ("tables --configfile a.yaml b.yaml --cores 2 x", ["config.yaml", "a.yaml", "b.yaml"]),
        ("--configfiles a.yaml --configfile=b.yaml", ["config.yaml", "a.yaml", "b.yaml"]),
        ("--cores 2 --config threads=1", None),
    ],
)
def test_the_configuration_files_are_those_that_snakemake_reads(arguments: str, expected: list[str] | None) -> None:
    found = configfiles(arguments.split())
    assert found == (None if expected is None else [Path(name) for name in expected])


def test_results_that_cannot_be_written_are_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "overlay.yaml").write_text(f"results: {tmp_path / 'results' / 'deep'}\n")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: str(path) != str(tmp_path / "results"))
    arguments = ["--configfile", str(tmp_path / "overlay.yaml")]
    with pytest.raises(UserError, match=f"{tmp_path / 'results'} is not writable"):
        command._look_at_results(arguments)
    command._look_at_results([*arguments, "--dry-run"])
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    command._look_at_results(arguments)


# The base: config.yaml beside the Snakefile that Snakemake reads


def test_the_base_is_the_one_beside_the_snakefile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("")
    assert configfiles(["tables"]) == [ROOT / "config.yaml"]
    assert configfiles(["-s", "a/Snakefile", "tables"]) == [Path("a/config.yaml")]
    Path("Snakefile").write_text("")
    assert configfiles(["tables"]) == [Path("config.yaml")]


def test_another_working_folder_leaves_the_base_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its config.yaml nor its Snakefile is what Snakemake reads."""
    for name in ("Snakefile", "config.yaml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(ROOT)
    arguments, folder = located(["--directory", str(tmp_path), "--snakefile=Snakefile"])
    monkeypatch.chdir(folder)
    assert configfiles(arguments) == [ROOT / "config.yaml"]
    monkeypatch.chdir(ROOT)
    arguments, folder = located(["--directory", str(tmp_path)])
    monkeypatch.chdir(folder)
    assert configfiles(arguments) == [ROOT / "config.yaml"]


@pytest.mark.parametrize("asked", [["workflow", "-n"], ["plan"], ["status"]])
def test_a_config_that_nobody_would_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """A work folder with an edited config.yaml, and no Snakefile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execv", lambda program, arguments: pytest.fail("it was started"))
    Path("config.yaml").write_text("threads: 1\n")
    refused = CliRunner().invoke(main, asked)
    assert refused.exit_code == 2
    assert f"{ROOT / 'config.yaml'} would be read instead: add `--configfile config.yaml`" in refused.stderr


def test_a_config_that_is_named_is_laid_over_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(arguments))
    Path("config.yaml").write_text("threads: 1\n")
    command.exec_snakemake(["-n", "--configfile", "config.yaml"])
    assert started[0][1:] == ["--snakefile", str(ROOT / "Snakefile"), "-n", "--configfile", "config.yaml"]


# What is no run


@pytest.mark.parametrize("option", ["-np", "--summary", "--list-rules", "--lint", "--report", "--touch", "--unlock"])
def test_what_runs_no_job_changes_nothing_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """No result is restored or adopted, and no run is noted, which would hold the lock."""
    monkeypatch.chdir(tmp_path)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(arguments))
    monkeypatch.setattr(command, "load", lambda files: pytest.fail("results were looked at"))
    command.exec_snakemake([option])
    assert started[0][-1] == option
    assert not list(tmp_path.iterdir())


# Targets


@pytest.mark.parametrize(
    ("arguments", "targets"),
    [
        ("data figures --cores 2", ["data", "figures"]),
        ("--cores 2 data", ["data"]),
        ("-k data", ["data"]),
        ("-j2 --keep-going data figures -n", ["data", "figures"]),
        ("--configfile a.yaml b.yaml --directory X data", ["data"]),
        ("--configfile a.yaml -- data --figures", ["data", "--figures"]),
        ("--configfile a.yaml data", []),
        ("--slurm-array-limit 5 --forcerun cells_tiny", []),
    ],
)
def test_targets_are_those_that_snakemake_finds(arguments: str, targets: list[str]) -> None:
    assert targets_of(arguments.split()) == targets
