"""Six trials of `make faults` with fixed seeds, and its detection of wrong outcomes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.fault_cases import NAME, STAGES, STUDY, Injected, Place, copy_place
from three_regime.system.files import read_arrays, read_metadata, write_arrays


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The finished study."""
    return faults.reference(tmp_path_factory.mktemp("faults") / "reference")


@pytest.fixture(scope="module")
def expected(finished: Place) -> dict[str, str]:
    return faults.content(finished)


@pytest.fixture
def place(finished: Place, tmp_path: Path) -> Place:
    return copy_place(finished, tmp_path / "trial")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed", "outcomes"),
    [
        ("kill job in retrain", 1, {"correct"}),
        ("kill snakemake in dense", 2, {"correct"}),
        ("kill group in lmc", 3, {"correct"}),
        ("kill group in analysis", 4, {"correct"}),
        ("flipped bit in pruned checkpoint", 5, {"refused"}),
        ("out of GPU memory in retrain", 6, {"correct"}),
    ],
)
def test_a_fault_is_survived(place: Place, expected: dict[str, str], name: str, seed: int, outcomes: set[str]) -> None:
    trial = faults.attempt(place, name, seed, expected)
    assert trial.outcome in outcomes, trial


@pytest.mark.parametrize("mountable", [True, False])
def test_fifty_kills_and_every_other_fault_are_in_a_run(monkeypatch: pytest.MonkeyPatch, mountable: bool) -> None:
    monkeypatch.setattr(faults.cases, "MOUNTABLE", mountable)
    names = faults.schedule(faults.TRIALS)
    assert len(names) == faults.TRIALS
    kills = [name for name in names if name in faults.KILLS]
    assert len(kills) >= 50
    for stage in STAGES:
        assert sum(name.endswith(f" in {stage}") for name in kills) >= 5
    others = [name for name in names if name not in faults.KILLS]
    assert sorted(others) == sorted(
        name for name in faults.OTHERS if mountable or not faults.NEEDS_MOUNT.search(name)
    )  # fmt: skip
    assert sum(faults.NEEDS_MOUNT.search(name) is not None for name in faults.OTHERS) == 5


def test_make_faults_is_that_run() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    planned = subprocess.run(
        ["make", "-n", "faults"], cwd=faults.cases.ROOT, env=clean, capture_output=True, text=True, check=True
    )
    assert planned.stdout.splitlines()[-1].split()[1:] == ["-m", "benchmarks.faults", "--out", "benchmarks/results"]


def test_the_summary_counts_kills_by_stage() -> None:
    trials = [faults.Trial(f"kill job in {stage}", 1, "correct", "", "", 1.0) for stage in STAGES]
    trials += [faults.Trial("kill group in dense", 1, "WRONG", "", "", 1.0)]
    trials += [faults.Trial("full disk in dense", 1, "refused", "", "", 1.0)]
    assert faults.summary(trials) == (
        "Of 9 trials (8 SIGKILLs, at least 1 in each stage) 7 ended correct, 1 were refused, 1 were wrong.\n"
    )


@pytest.mark.slow
def test_a_wrong_number_is_seen(place: Place, expected: dict[str, str]) -> None:
    assert faults.differences(place, expected) == ""
    path = place.files(f"{STUDY}/seed1/*/*/*/retrained.safetensors")[0]
    arrays = read_arrays(path)
    arrays["fc.bias"] = arrays["fc.bias"] + 1
    write_arrays(path, arrays, read_metadata(path), compact=True)
    assert "1 files differ: results/faults/faults/seed1/epochs002/density010" in faults.differences(place, expected)
    result = place.files(f"{STUDY}/seed1/*/*/*/lmc.json")[0]
    result.write_text(json.dumps({**json.loads(result.read_text()), "lmc": 7}))
    assert faults.differences(place, expected).startswith("2 files differ")
    place.forget("analysis")
    assert faults.differences(place, expected).startswith("16 files differ"), "14 tables more"


@pytest.mark.parametrize(
    ("text", "clear"),
    [
        ("12:00:00 lmc | ERROR results/faults/x.json is damaged; delete it\n", True),
        ("12:00:00 lmc | ERROR something went wrong\n", False),
        ("Traceback (most recent call last):\n 12:00:00 lmc | ERROR results/faults/x.json\n", False),
        ("Killed\n", False),
    ],
)
def test_a_message_is_clear_when_it_names_a_file(tmp_path: Path, text: str, clear: bool) -> None:
    assert bool(faults.complaint(Place(tmp_path), text)) == clear


@pytest.mark.slow
def test_an_unclear_refusal_is_wrong(place: Place, expected: dict[str, str]) -> None:
    """The message names a file that no rule makes, so the outcome must be wrong."""
    outcome, message = faults._judge(place, Injected("no_such_target", "nothing"), expected)
    assert outcome == "WRONG" and message.startswith("unclear") and NAME
