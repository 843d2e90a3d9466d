"""Snakemake's lock is removed only if the run that left it is known to be dead, otherwise only by the user."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from checkout import Checkout
from finished import OPTIONS, copied

from three_regime.system.files import write_json
from three_regime.workflow import snakemake_lock
from three_regime.workflow.snakemake_lock import LOCKS, Run

HERE = snakemake_lock.socket.gethostname()
UNLOCK = ["python", "-m", "three_regime", "workflow", "--unlock"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def process() -> Iterator[psutil.Process]:
    """A process that runs."""
    started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(started.pid)
    started.kill()
    started.wait()


def note(run: Run) -> Run:
    write_json(run.file, snakemake_lock.asdict(run))
    return run


def lock() -> None:
    LOCKS.mkdir(parents=True, exist_ok=True)
    (LOCKS / "0.output.lock").write_text("results/x\n")


def of(process: psutil.Process, **changes: object) -> Run:
    return Run(**{"host": HERE, "pid": process.pid, "started": process.create_time(), **changes})


def test_a_lock_goes_when_its_run_was_killed_and_not_before(process: psutil.Process) -> None:
    note(of(process))
    assert not snakemake_lock.is_left_behind(), "nothing is locked"
    lock()
    assert not snakemake_lock.is_left_behind()
    process.kill()  # and nobody has waited for it yet
    psutil.wait_procs([process], timeout=0.5)
    assert snakemake_lock.is_left_behind()


def test_a_live_run_of_this_machine_is_named(process: psutil.Process) -> None:
    note(of(process))
    assert snakemake_lock.in_progress() == "", "nothing is locked"
    lock()
    said = snakemake_lock.in_progress()
    assert f"process {process.pid}, started 20" in said and "do not unlock" in said
    process.kill()
    psutil.wait_procs([process], timeout=0.5)
    assert snakemake_lock.in_progress() == ""


def test_setting_the_clock_ends_no_run(process: psutil.Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil's start times move with the clock."""
    lock()
    identity = snakemake_lock._identity(process.pid)
    assert identity != snakemake_lock._identity(os.getpid()) and identity == snakemake_lock._identity(process.pid)
    note(of(process, started=process.create_time() - 7200, identity=identity))
    assert not snakemake_lock.is_left_behind()
    note(of(process, identity=f"{identity}1"))
    assert snakemake_lock.is_left_behind(), "another process with its number"


def test_another_process_with_the_number_of_a_dead_one_is_not_it(process: psutil.Process) -> None:
    lock()
    note(of(process, started=process.create_time() - 60))
    assert snakemake_lock.is_left_behind()


def test_while_one_of_the_noted_runs_lives_the_lock_stays(process: psutil.Process) -> None:
    """The run that ended last may not hold the lock."""
    lock()
    note(of(process))
    note(of(process, pid=2**22 + 1, started=process.create_time() + 60))
    assert not snakemake_lock.is_left_behind()


def test_a_lock_without_any_note_is_left_alone() -> None:
    lock()
    assert not snakemake_lock.is_left_behind()
    assert snakemake_lock.of_another_machine(UNLOCK) == ""


def test_runs_of_another_machine_are_forgotten_without_a_lock(process: psutil.Process) -> None:
    note(of(process, host="other"))
    here = note(of(process))
    snakemake_lock.forget()
    assert snakemake_lock.noted() == [here]
    note(of(process, host="other"))
    lock()
    snakemake_lock.forget()
    assert {run.host for run in snakemake_lock.noted()} == {HERE, "other"}


def test_a_lock_of_another_machine_is_explained(process: psutil.Process) -> None:
    lock()
    note(of(process, host="other", pid=12))
    assert not snakemake_lock.is_left_behind()
    said = snakemake_lock.of_another_machine([*UNLOCK, "--configfile", "config/my demo.yaml"])
    assert "perhaps by process 12 on other, started" in said
    assert "Once it has ended" in said and "two runs would write the same files" in said
    assert shlex.split(said.splitlines()[1]) == [*UNLOCK, "--configfile", "config/my demo.yaml"]
    note(of(process))
    assert snakemake_lock.of_another_machine(UNLOCK) == "", "a run of this machine holds it"


def test_a_damaged_note_is_no_note(process: psutil.Process) -> None:
    lock()
    note(of(process)).file.write_text('{"host": ')
    assert snakemake_lock.noted() == []
    snakemake_lock.note()
    assert [run.pid for run in snakemake_lock.noted()] == [os.getpid()]


# With Snakemake. A run that was killed is put together from what it leaves: its note and its lock.

TARGET = "results/tiny/tiny/cells.csv"


def started(checkout: Checkout, *arguments: str) -> tuple[int, str]:
    """Return exit code and output of the workflow."""
    ended = subprocess.run(
        [sys.executable, "-m", "three_regime", "workflow", "--cores", "1", *OPTIONS, *arguments],
        cwd=checkout.path, env=checkout.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=120,
    )  # fmt: skip
    return ended.returncode, ended.stdout


def leave_lock(checkout: Checkout) -> None:
    """Leave a lock on the workflow's outputs."""
    folder = checkout.path / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0.output.lock").write_text(f"{TARGET}\n")


@pytest.mark.slow
def test_after_a_run_elsewhere_a_kill_here_is_recovered_from(complete_tiny: Checkout, tmp_path: Path) -> None:
    checkout = copied(complete_tiny, tmp_path / "checkout")
    runs = checkout.path / snakemake_lock.RUNS
    for path in runs.iterdir():
        path.unlink()
    write_json(runs / "other-12.json", {"host": "other", "pid": 12, "started": 1.0})
    (checkout.path / TARGET).unlink()
    code, output = started(checkout, "--", TARGET)
    assert code == 0, output
    (own,) = runs.iterdir()
    assert own.name.startswith(f"{HERE}-"), "the run of another machine is still noted"
    leave_lock(checkout)
    (checkout.path / TARGET).unlink()
    code, output = started(checkout, "--", TARGET)
    assert "removing the stale lock of a killed run" in output
    assert code == 0 and (checkout.path / TARGET).exists(), output


@pytest.mark.slow
def test_a_lock_from_elsewhere_stays_until_unlocked(complete_tiny: Checkout, tmp_path: Path) -> None:
    checkout = copied(complete_tiny, tmp_path / "checkout")
    write_json(checkout.path / snakemake_lock.RUNS / "other-12.json", {"host": "other", "pid": 12, "started": 1.0})
    leave_lock(checkout)
    (checkout.path / TARGET).unlink()
    code, output = started(checkout, "--", TARGET)
    assert code != 0 and "LockException" in output
    (command,) = [line for line in output.splitlines() if line.startswith("  ") and "--unlock" in line]
    subprocess.run(shlex.split(command), cwd=checkout.path, env=checkout.environment(), check=True, timeout=120)
    assert not any((checkout.path / LOCKS).glob("*"))
    code, output = started(checkout, "--", TARGET)
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize(("options", "notes"), [((), 1), (("-n",), 0)])
def test_a_run_is_noted_before_it_locks(finished_tiny: Checkout, tmp_path: Path, options: tuple, notes: int) -> None:
    """Otherwise a second run could take the lock for that of a dead one, until the first starts its jobs."""
    checkout = copied(finished_tiny, tmp_path / "checkout")
    command = ["snakemake", "--cores", "1", *OPTIONS, *options, "--", "no-such/file"]
    ended = subprocess.run(
        [sys.executable, "-m", *command], cwd=checkout.path, env=checkout.environment(), capture_output=True, text=True
    )
    assert "MissingRule" in ended.stdout + ended.stderr, "it ended while Snakemake looked for jobs, before the lock"
    assert len(list((checkout.path / snakemake_lock.RUNS).glob("*.json"))) == notes
