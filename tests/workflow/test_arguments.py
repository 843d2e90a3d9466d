"""Workflow arguments inspected before Snakemake starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkout import ROOT

from three_regime.errors import UserError
from three_regime.workflow import command
from three_regime.workflow.arguments import configfiles


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
