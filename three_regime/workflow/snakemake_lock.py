"""Snakemake's lock on this folder: whose it is, and whether that run has ended without giving it back.

Snakemake killed with SIGKILL leaves its folder locked, and a lock does not say whose it is. Each run therefore notes
host, process and start time beside it. A process of this machine can be looked for; one of another cannot, so
only people can say whether it has ended. No torch.
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
"""Two start times of one process differ by less, those of a process number that was given again by more."""


@dataclass(frozen=True)
class Run:
    """A run of Snakemake on this folder.

    Attributes
    ----------
    started
        When its process began, in seconds since 1970.
    """

    host: str
    pid: int
    started: float

    @property
    def here(self) -> bool:
        """Whether it was started on this machine (by name: a container or a login node is another one)."""
        return self.host == socket.gethostname()

    @property
    def gone(self) -> bool:
        """Whether its process is known to have ended."""
        if not self.here:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return ended or abs(process.create_time() - self.started) > SAME_START_S
        return True

    @property
    def file(self) -> Path:
        """Where it is noted."""
        return RUNS / f"{self.host}-{self.pid}.json"


def note() -> None:
    """Note this process as a run that may hold the lock."""
    me = psutil.Process()
    run = Run(socket.gethostname(), me.pid, me.create_time())
    write_json(run.file, asdict(run))


def noted() -> list[Run]:
    """The runs that are noted, the latest first."""
    found = []
    for path in RUNS.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Run(**json.loads(path.read_text())))
    return sorted(found, key=lambda run: run.started, reverse=True)


def is_locked() -> bool:
    """Whether some run holds the lock, or has left it behind."""
    return any(LOCKS.glob("*"))


def is_left_behind() -> bool:
    """Whether the folder is locked and every run that may have done it has ended."""
    runs = noted()
    return is_locked() and bool(runs) and all(run.gone for run in runs)


def forget() -> None:
    """Drop the notes of runs that hold no lock: those that have ended, and without a lock those of other machines.

    One of another machine that is only about to lock the folder notes itself again when it has done so.
    """
    locked = is_locked()
    for run in noted():
        if run.gone or (not locked and not run.here):
            run.file.unlink(missing_ok=True)


def of_another_machine(unlock: Sequence[str]) -> str:
    """What to say before a start when a run of another machine may hold the lock, or nothing.

    Parameters
    ----------
    unlock
        The command that removes the lock.
    """
    runs = noted()
    others = [run for run in runs if not run.here]
    if not is_locked() or not others or any(run.here and not run.gone for run in runs):
        return ""
    began = f"{datetime.fromtimestamp(others[0].started).astimezone():%Y-%m-%d %H:%M:%S %z}"
    return (
        f"this folder is locked, perhaps by process {others[0].pid} on {others[0].host}, started {began}, which cannot"
        f" be looked for from {socket.gethostname()}. Once it has ended, or its machine or container is no more, it is"
        f" safe to remove the lock:\n  {shlex.join(unlock)}\nWhile it runs, it is not: two runs would write the same"
        " files."
    )
