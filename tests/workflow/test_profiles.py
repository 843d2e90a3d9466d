"""Profiles: same plan under each, settings that their plugins know, and `make slurm`."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from checkout import ROOT, Checkout
from finished import OPTIONS
from snakemake.cli import parse_args
from snakemake_executor_plugin_slurm import ExecutorSettings

PROFILES = sorted(path.parent.name for path in (ROOT / "profiles").glob("*/config.yaml"))
ON_SLURM = ("slurm", "slurm-no-accounting")
GENERIC = ("kubernetes", "pbs")


def settings(profile: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())


# The profiles agree


def test_these_are_all_the_profiles() -> None:
    assert {"default", *ON_SLURM, *GENERIC} == set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_agree_on_what_makes_a_job_run_again(profile: str) -> None:
    assert settings(profile)["rerun-triggers"] == ["mtime", "params", "input"]
    assert settings(profile)["rerun-incomplete"] is True
    assert settings(profile)["keep-going"] is True


@pytest.mark.parametrize("profile", [*ON_SLURM, *GENERIC])
def test_a_cluster_retries_and_waits_for_its_file_system(profile: str) -> None:
    assert settings(profile)["retries"] >= 2
    assert settings(profile)["latency-wait"] >= 30
    assert {"gpu=0", "mem_mb=4000 * attempt", "runtime=30 * attempt"} <= set(settings(profile)["default-resources"])


def test_rules_leave_retries_to_the_profiles() -> None:
    """As a directive, retries would also apply inside the allocation."""
    assert "retries" not in settings("default")
    for path in (ROOT / "rules").glob("*.smk"):
        assert not re.search(r"^\s*retries:", path.read_text(), flags=re.MULTILINE), path


def test_what_takes_seconds_does_not_wait_in_a_queue() -> None:
    for name in ("analysis", "figures"):
        text = (ROOT / f"rules/{name}.smk").read_text()
        assert text.count("localrule: True") == len(re.findall(r"^\s*rule\b.*:$", text, flags=re.MULTILINE)), name


@pytest.mark.parametrize("profile", ON_SLURM)
def test_slurm_settings_are_those_of_the_plugin(profile: str) -> None:
    known = {f"slurm-{field.name.replace('_', '-')}" for field in dataclasses.fields(ExecutorSettings)}
    used = {key for key in settings(profile) if key.startswith("slurm-")}
    assert used and used <= known
    assert settings(profile)["slurm-requeue"] is True
    assert partitions_of(profile) == ROOT / "profiles/slurm/partitions.yaml"


def partitions_of(profile: str) -> Path:
    """The file as Snakemake finds it: in the profile's folder."""
    return (ROOT / "profiles" / profile / settings(profile)["slurm-partition-config"]).resolve(strict=True)


def test_without_accounting_only_the_account_differs() -> None:
    first, second = (settings(profile) for profile in ON_SLURM)
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    assert differing == {"slurm-no-account", "slurm-partition-config"}
    assert partitions_of(ON_SLURM[0]) == partitions_of(ON_SLURM[1])
    assert second["slurm-status-command"] == "squeue"


@pytest.mark.parametrize("profile", ON_SLURM)
def test_an_array_fits_on_a_command_line(profile: str) -> None:
    """1.7 KB a task were measured; Linux takes 128 KB in one argument."""
    assert settings(profile)["slurm-array-jobs"] == "all"
    assert 1.7 * settings(profile)["slurm-array-limit"] < 128


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["default", *ON_SLURM])
def test_after_a_run_no_profile_finds_anything_to_do(complete_tiny: Checkout, profile: str) -> None:
    assert "Nothing to be done" in complete_tiny.under(profile, "--dry-run", *OPTIONS)


def make(*arguments: str) -> str:
    """The last command that make would run."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    planned = subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60
    )
    assert planned.returncode == 0, planned.stderr
    return planned.stdout.splitlines()[-1]


def test_make_slurm_is_the_whole_paper_unless_a_preset_is_named() -> None:
    assert make("slurm").split()[-4:] == ["workflow", "--workflow-profile", '"profiles/slurm"', "--"]
    named = make("slurm", "PRESET=figure2", "PROFILE=slurm-no-accounting", "TARGETS=figures")
    assert '"profiles/slurm-no-accounting" --configfile "config/figure2.yaml"' in named
    assert named.endswith("-- figures")


@pytest.mark.parametrize("target", ["paper", "run", "slurm", "dryrun"])
def test_make_keeps_options_and_targets_apart(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some options of Snakemake take all words that follow."""
    monkeypatch.chdir(ROOT)
    command = shlex.split(make(target, "ARGS=--resources gpu=2", "TARGETS=data figures"))
    _, parsed = parse_args(command[command.index("workflow") + 1 :])
    assert parsed.targets == ["data", "figures"]
    assert parsed.resources["gpu"] == 2
    assert bool(parsed.dryrun) == (target == "dryrun")
