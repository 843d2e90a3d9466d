"""Snakemake's lock on this folder: its owner, and whether that run died without releasing it.

Snakemake killed with SIGKILL leaves its folder locked, and the lock does not name its owner. Each run therefore records
host, process and start time beside it. A process of this machine can be checked; for one of another machine, only the
user can tell whether it has ended.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from three_regime.system.files import write_json
from three_regime.system.places import SNAKEMAKE_FOLDER

LOCKS = SNAKEMAKE_FOLDER / "locks"
RUNS = SNAKEMAKE_FOLDER / "three-regime-runs"

SAME_START_S = 1.0
"""Tolerance for start times of the same process, where `_identity` is empty; a recycled process id differs by more."""


@dataclass(frozen=True)
class Run:
    """A run of Snakemake on this folder.

    Attributes
    ----------
    started
        Start time of its process in seconds since 1970.
    identity
        See `_identity`.
    """

    host: str
    pid: int
    started: float
    identity: str = ""

    @property
    def here(self) -> bool:
        """Whether it was started on this machine (by host name: a container or a login node is another machine)."""
        return self.host == socket.gethostname()

    @property
    def gone(self) -> bool:
        """Whether its process is known to have ended."""
        if not self.here:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            if self.identity:
                return _identity(self.pid) != self.identity
            return abs(process.create_time() - self.started) > SAME_START_S
        return True

    @property
    def file(self) -> Path:
        """Path of its record."""
        return RUNS / f"{self.host}-{self.pid}.json"


def _identity(pid: int) -> str:
    """A process's boot and start in ticks since then, which setting the clock does not change; empty without /proc."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    return f"{boot}/{ticks}"


def note() -> None:
    """Record this process as a run that may hold the lock."""
    me = psutil.Process()
    run = Run(socket.gethostname(), me.pid, me.create_time(), _identity(me.pid))
    write_json(run.file, asdict(run))


def noted() -> list[Run]:
    """Recorded runs, latest first."""
    found = []
    for path in RUNS.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Run(**json.loads(path.read_text())))
    return sorted(found, key=lambda run: run.started, reverse=True)


def is_locked() -> bool:
    """Whether the folder is locked, by a live or a dead run."""
    return any(LOCKS.glob("*"))


def is_left_behind() -> bool:
    """Whether the folder is locked and every run that may have locked it has ended."""
    runs = noted()
    return is_locked() and bool(runs) and all(run.gone for run in runs)


def forget() -> None:
    """Remove records of runs that hold no lock: ended runs and, if there is no lock, runs of other machines.

    A run of another machine that is about to lock the folder records itself again when it has done so.
    """
    locked = is_locked()
    for run in noted():
        if run.gone or (not locked and not run.here):
            run.file.unlink(missing_ok=True)


def in_progress() -> str:
    """Sentence about a live run of this machine that may hold the lock; empty if there is none.

    Snakemake itself only says that a lock was likely left behind. Runs of disjoint files may go side by side.
    """
    alive = [run for run in noted() if run.here and not run.gone]
    if not is_locked() or not alive:
        return ""
    return (
        f"a run is in progress in this folder: process {alive[0].pid}, started {_began(alive[0])}. If Snakemake reports"
        " a lock, both would write the same files: wait for that run (`python -m three_regime status`) or stop it, and"
        " do not unlock"
    )


def _began(run: Run) -> str:
    return f"{datetime.fromtimestamp(run.started).astimezone():%Y-%m-%d %H:%M:%S %z}"


def of_another_machine(unlock: Sequence[str]) -> str:
    """Warning to print if a run of another machine may hold the lock; else empty.

    Parameters
    ----------
    unlock
        Command that removes the lock.
    """
    runs = noted()
    others = [run for run in runs if not run.here]
    if not is_locked() or not others or any(run.here and not run.gone for run in runs):
        return ""
    return (
        f"this folder is locked, perhaps by process {others[0].pid} on {others[0].host}, started {_began(others[0])},"
        f" which cannot be checked from {socket.gethostname()}. Once it has ended, or its machine or container no"
        " longer exists, it is safe to remove the lock:\n"
        f"  {shlex.join(unlock)}\n"
        "While it runs, it is not: two runs would write the same files."
    )
