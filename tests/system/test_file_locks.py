"""Locks: one process at a time; file systems without locks are accepted."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading

import pytest
from checkout import ROOT
from filelock import FileLock

from three_regime.errors import UserError
from three_regime.planning import status
from three_regime.system import gpu_slots
from three_regime.system.file_locks import Timeout, acquired, exclusively
from three_regime.system.interruption import Stop


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request, monkeypatch):
    def flock(file: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_one_at_a_time(tmp_path, caplog):
    held, went_on = threading.Event(), []

    def second() -> None:
        with exclusively(tmp_path / "deep" / "lock", "waiting for the first"):
            went_on.append(held.is_set())

    with exclusively(tmp_path / "deep" / "lock"):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.3)
        held.set()
    other.join(5)
    assert went_on == [True] and "waiting for the first" in caplog.messages


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_work_is_done_and_it_is_said(tmp_path, caplog):
    path = tmp_path / "lock"
    for _ in range(2):  # nothing is left that would stop the second
        with exclusively(path):
            pass
    assert acquired(path, timeout=0) is None
    assert any(str(path) in message and "does not support locks" in message for message in caplog.messages)
    assert not status._held(path)
    device = gpu_slots.Device("gpu", "0")
    assert gpu_slots._acquire([device], 1, Stop(), tmp_path)[:2] == (None, device)


def test_a_lock_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "lock", tmp_path / "folder"):
        with pytest.raises(UserError, match=f"cannot write .*{path.parent.name}"), exclusively(path):
            pass


def test_a_held_lock_is_a_timeout(tmp_path):
    with FileLock(tmp_path / "lock"), pytest.raises(Timeout):
        acquired(tmp_path / "lock", timeout=0)


def test_locks_are_taken_in_one_place():
    """A lock taken elsewhere would not know of file systems without locks."""
    found = [path for path in (ROOT / "three_regime").rglob("*.py") if "FileLock(" in path.read_text()]
    assert [path.name for path in found] == ["file_locks.py"]


def test_a_killed_process_leaves_no_lock(tmp_path):
    code = "import os, sys; from pathlib import Path; from three_regime.system.file_locks import acquired;"
    code += "lock = acquired(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lock")], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    acquired(tmp_path / "lock", timeout=0).release()
