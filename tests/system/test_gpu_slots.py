"""Local GPU slots: never more jobs per device than allowed, released on any exit; a batch job keeps its device."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tiny_study
from checkout import ROOT

from three_regime.errors import Interrupted, UserError
from three_regime.jobs.run import Outcome
from three_regime.study.grid import wants_gpu
from three_regime.system import device as choosing
from three_regime.system import gpu_slots
from three_regime.system.gpu_slots import Device, device, devices, uuids
from three_regime.system.interruption import Stop

HOLDER = """
import json, logging, os, sys, time
from pathlib import Path
from three_regime.system.interruption import Stop
from three_regime.system.gpu_slots import device
folder, found, shares, seconds, journal = json.loads(sys.argv[1])
with device(shares, Stop(), find=lambda: found, slots=Path(folder)) as held:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == held.token
    with open(journal, "a") as file:
        print("in", held.name, file=file, flush=True)
        time.sleep(seconds)
        print("out", held.name, file=file, flush=True)
"""


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Environment without a batch system or a chosen device, with separate slots."""
    for name in (*gpu_slots.BATCH_JOBS, gpu_slots.VISIBLE, gpu_slots.CHOSEN_HERE):
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpu_slots.tempfile, "gettempdir", lambda: str(tmp_path))


def hold(
    folder: Path, found: list[str], shares: int, seconds: float, journal: Path, **environment: str
) -> subprocess.Popen:
    """Start a process that holds a slot for a given time."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", HOLDER, json.dumps([str(folder), found, shares, seconds, str(journal)])]
    own = (*gpu_slots.BATCH_JOBS, gpu_slots.VISIBLE, gpu_slots.CHOSEN_HERE)
    clean = {name: value for name, value in os.environ.items() if name not in own}
    return subprocess.Popen(command, env={**clean, "PYTHONPATH": str(ROOT), **environment})


def entries(journal: Path) -> list[list[str]]:
    return [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []


def until(true: object, journal: Path) -> None:
    """Wait until a condition on the journal's entries holds."""
    deadline = time.monotonic() + 60
    while not true(entries(journal)):
        assert time.monotonic() < deadline, entries(journal)
        time.sleep(0.02)


def most(journal: Path) -> Counter[str]:
    """Device → the largest number of holders at once (lines are appended whole, in order of time)."""
    now, highest = Counter(), Counter()
    for event, name in entries(journal):
        now[name] += 1 if event == "in" else -1
        highest[name] = max(highest[name], now[name])
    return highest


@pytest.mark.parametrize(("found", "shares", "processes"), [(["GPU-a"], 1, 4), (["GPU-a", "GPU-b"], 2, 7)])
def test_processes_never_share_more_than_allowed_and_use_all(tmp_path, found, shares, processes):
    journal = tmp_path / "journal"
    started = [hold(tmp_path / "slots", found, shares, 0.3, journal) for _ in range(processes)]
    assert [process.wait(60) for process in started] == [0] * processes
    assert len(entries(journal)) == 2 * processes
    assert set(most(journal)) == set(found)
    assert max(most(journal).values()) <= shares


def test_every_device_gets_a_job_before_any_gets_two(tmp_path):
    found = ["GPU-a", "GPU-b", "GPU-c"]
    journal = tmp_path / "journal"
    started = []
    for number in range(1, 4):
        started.append(hold(tmp_path / "slots", found, 2, 60, journal))
        until(lambda lines, number=number: len(lines) == number, journal)
    assert sorted(name for _, name in entries(journal)) == found
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_slot_is_free_when_its_holder_dies(tmp_path, number):
    journal = tmp_path / "journal"
    first = hold(tmp_path / "slots", ["GPU-a"], 1, 60, journal)
    until(lambda lines: len(lines) == 1, journal)
    second = hold(tmp_path / "slots", ["GPU-a"], 1, 0, journal)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1.5)
    first.send_signal(number)
    first.wait()
    assert second.wait(60) == 0
    assert entries(journal) == [["in", "GPU-a"], ["in", "GPU-a"], ["out", "GPU-a"]]


def test_pools_of_other_folders_do_not_see_each_other(tmp_path):
    journal = tmp_path / "journal"
    started = [hold(tmp_path / name, ["GPU-a"], 1, 60, journal) for name in ("one", "two")]
    until(lambda lines: len(lines) == 2, journal)
    for process in started:
        process.kill()
        process.wait()


def test_processes_with_other_shares_use_the_same_slots(tmp_path):
    journal = tmp_path / "journal"
    started = [hold(tmp_path / "slots", ["GPU-a"], shares, 0.2, journal) for shares in (2, 1, 2, 1, 2)]
    assert [process.wait(60) for process in started] == [0] * 5
    assert most(journal)["GPU-a"] <= 2


def test_waiting_ends_when_asked_to_stop(tmp_path, caplog):
    caplog.set_level("INFO")
    stop = Stop()
    with device(1, Stop(), find=lambda: ["GPU-a"], slots=tmp_path):
        stop.request("received SIGTERM")
        with pytest.raises(Interrupted, match="received SIGTERM: no GPU was free"):
            device(1, stop, find=lambda: ["GPU-a"], slots=tmp_path).__enter__()


def test_a_process_keeps_its_device(tmp_path):
    """CUDA reads the variable once: the second job of a process must get the same device."""
    with device(1, Stop(), find=lambda: ["GPU-a", "GPU-b"], slots=tmp_path) as first:
        pass
    other = hold(tmp_path, ["GPU-a", "GPU-b"], 1, 2, tmp_path / "journal")  # takes GPU-a, for two seconds
    until(lambda lines: len(lines) == 1, tmp_path / "journal")
    with device(1, Stop(), find=lambda: ["GPU-a", "GPU-b"], slots=tmp_path) as second:
        assert len(entries(tmp_path / "journal")) == 2, "it did not wait for its own device"
    assert first == second == Device("GPU-a", "GPU-a")
    assert other.wait(60) == 0


@pytest.mark.parametrize("name", gpu_slots.BATCH_JOBS)
def test_a_batch_system_is_not_overruled(tmp_path, monkeypatch, caplog, name):
    caplog.set_level("INFO")
    monkeypatch.setenv(name, "12")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with device(1, Stop(), find=lambda: pytest.fail("looked for devices"), slots=tmp_path) as held:
        assert held is None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert f"CUDA_VISIBLE_DEVICES=3, as the batch system chose ({name} 12)" in caplog.text
    assert not list(tmp_path.glob("GPU*"))


@pytest.mark.parametrize("name", gpu_slots.BATCH_JOBS)
@pytest.mark.parametrize(
    ("visible", "found"),
    [("0,1", ["GPU-aa", "GPU-bb"]), ("2,3", []), ("GPU-aa,GPU-bb", ["GPU-aa", "GPU-bb"]), ("MIG-5, MIG-6", ["MIG-5"]),
     ("MIG-GPU-1/7/0,MIG-GPU-1/8/0", [])],
)  # fmt: skip
def test_of_several_devices_of_a_batch_job_each_job_gets_one(tmp_path, monkeypatch, name, visible, found):
    tokens = [token.strip() for token in visible.split(",")]
    held = []
    with contextlib.ExitStack() as stack:
        for _ in tokens:
            monkeypatch.setenv(name, "12.server")
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
            held.append(stack.enter_context(device(1, Stop(), find=lambda: found, slots=tmp_path)))
            assert os.environ["CUDA_VISIBLE_DEVICES"] == held[-1].token
    assert [each.token for each in held] == tokens


def test_a_taken_device_is_held_for_every_job_of_the_process(tmp_path, monkeypatch):
    """The first job leaves one device in the variable: that is not the batch system's choice."""
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with device(1, Stop(), find=lambda: ["GPU-a", "GPU-b"], slots=tmp_path) as first:
        pass
    with device(1, Stop(), find=lambda: ["GPU-a", "GPU-b"], slots=tmp_path) as second:
        assert first == second == Device("0", "GPU-a")
        other = hold(
            tmp_path, ["GPU-a", "GPU-b"], 1, 0, tmp_path / "journal", SLURM_JOB_ID="12", CUDA_VISIBLE_DEVICES="0,1"
        )
        assert other.wait(60) == 0
    assert {held for _, held in entries(tmp_path / "journal")} == {"GPU-b"}


def test_allocations_with_equal_numbers_do_not_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    journal = tmp_path / "journal"
    with device(1, Stop(), find=list, slots=tmp_path) as held:
        other = hold(tmp_path, [], 1, 0, journal, SLURM_JOB_ID="13", CUDA_VISIBLE_DEVICES="0,1")
        assert other.wait(60) == 0
        assert entries(journal)[0] == ["in", held.name] == ["in", "device0"]


def test_without_a_device_there_is_nothing_to_hold(tmp_path, monkeypatch):
    with device(1, Stop(), find=list, slots=tmp_path) as held:
        assert held is None
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with device(1, Stop(), find=lambda: ["GPU-a"], slots=tmp_path) as held:
        assert held is None


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [("GPU-aa", "GPU-aa"), ("GPU-bb", "GPU-bb")]),
        ("1", [("1", "GPU-bb")]),
        ("1, 0", [("1", "GPU-bb"), ("0", "GPU-aa")]),
        ("GPU-b", [("GPU-b", "GPU-bb")]),
        ("7", [("7", "device7")]),
        ("0,-1,1", [("0", "GPU-aa")]),
        ("NoDevFiles", []),
        ("", []),
    ],
)
def test_visible_devices_alone_are_used_under_one_name(visible, expected):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = devices(environment, ["GPU-aa", "GPU-bb"])
    assert [(each.token, each.name) for each in found] == expected


def test_devices_are_found_as_nvidia_smi_lists_them():
    assert uuids("GPU 0: NVIDIA H200 (UUID: GPU-1-2)\nGPU 1: NVIDIA H200 (UUID: GPU-3-4)\n") == ["GPU-1-2", "GPU-3-4"]
    divided = (
        "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-5)\n  MIG 1g.18gb Device 1: (UUID: MIG-6)"
        "\nGPU 1: NVIDIA H200 (UUID: GPU-2)\n"
    )
    assert uuids(divided) == ["MIG-5", "MIG-6", "GPU-2"]
    assert uuids("No devices found.\n") == []


def test_without_nvidia_smi_the_driver_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu_slots, "PROC", tmp_path)
    assert gpu_slots.installed() == []
    for bus, uuid in (("0000:1b:00.0", "GPU-b"), ("0000:0a:00.0", "GPU-a")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t\t NVIDIA H200\nGPU UUID: \t {uuid}\nDevice Minor: 0\n")
    assert gpu_slots.installed() == ["GPU-a", "GPU-b"]
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-c)'\n")
    program.chmod(0o755)
    assert gpu_slots.installed() == ["GPU-c"]


def test_the_folder_is_private_to_machine_and_user(tmp_path, monkeypatch):
    assert gpu_slots.folder() == tmp_path / f"three-regime-{os.getuid()}" / "gpu-slots"
    assert gpu_slots.folder().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(gpu_slots.os, "getuid", lambda: gpu_slots.folder.__hash__())
    (tmp_path / f"three-regime-{os.getuid()}" / "gpu-slots").mkdir(parents=True)
    with pytest.raises(UserError, match="belongs to another user"):
        gpu_slots.folder()


# In a job


@pytest.fixture
def gpu_wanted(monkeypatch: pytest.MonkeyPatch):
    """`choose` forgets what it was asked before; found devices are given by the test."""
    choosing.choose.cache_clear()
    monkeypatch.setattr(gpu_slots.device.__wrapped__, "__kwdefaults__", {"find": lambda: ["GPU-a"], "slots": None})
    yield
    choosing.choose.cache_clear()


def test_a_job_that_computes_holds_a_slot_and_gives_it_back(tmp_path, gpu_wanted, caplog, monkeypatch):
    caplog.set_level("INFO")
    settings = tiny_study.config(tmp_path / "study", top={"device": "auto"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert tiny_study.run(settings, "dense") == Outcome(2, 0)
    assert "CUDA_VISIBLE_DEVICES=GPU-a, slot GPU-a.0" in caplog.text
    assert "this job runs on the CPU" in caplog.text and "torch sees no GPU" in caplog.text
    with device(1, Stop(), find=lambda: ["GPU-a"]) as held:
        assert held == Device("GPU-a", "GPU-a")


@pytest.mark.parametrize("asked", [{"device": "cpu"}, {"studies": {"tiny": {"resources": {"dense": {"gpu": 0}}}}}])
def test_a_job_that_asks_for_no_gpu_holds_none(tmp_path, gpu_wanted, caplog, asked):
    caplog.set_level("INFO")
    settings = tiny_study.config(tmp_path / "study", top={"device": "auto", **asked})
    tiny_study.run(settings, "dense")
    assert "CUDA_VISIBLE_DEVICES" not in caplog.text
    assert "this job runs on the CPU" in caplog.text


def test_a_required_gpu_that_is_not_there_is_refused(tmp_path, gpu_wanted, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    settings = tiny_study.config(tmp_path / "study", top={"device": "auto", "require_gpu": True})
    with pytest.raises(UserError, match=r"config\.require_gpu is true, but torch sees no GPU here"):
        tiny_study.run(settings, "dense")
    assert not tiny_study.files(settings, "dense")[0].exists()
    with pytest.raises(UserError, match="require_gpu is true, but device is cpu"):
        tiny_study.config(tmp_path / "study", top={"device": "cpu", "require_gpu": True})


def test_a_pack_with_nothing_stale_is_quick_and_asks_for_no_gpu(tmp_path):
    """In a process of its own, without torch, with every slot taken and a GPU required."""
    settings = tiny_study.config(tmp_path)
    for stage in ("dense", "prune", "retrain"):
        tiny_study.run(settings, stage)
    top = {"device": "auto", "require_gpu": True}
    command = tiny_study.command(tmp_path, "retrain", "--temperature", "1", top=top)
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-a)'\n")
    (fake / "nvidia-smi").chmod(0o755)
    (fake / "torch.py").write_text("raise ImportError('torch was imported')\n")
    environment = {
        **os.environ,
        "PATH": f"{fake}:{os.environ['PATH']}",
        "PYTHONPATH": f"{fake}:{ROOT}",
        "TMPDIR": str(tmp_path),
    }
    with device(1, Stop(), find=lambda: ["GPU-a"]):
        before = os.times()
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        after = os.times()
    assert ended.returncode == 0, ended.stderr
    assert "0 computed, 4 kept" in ended.stderr
    assert "GPU" not in ended.stderr
    # Processor time: the job waits for nothing, so that this is its time on a machine that does nothing else.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 3
    os.environ.pop(gpu_slots.VISIBLE, None)
    assert wants_gpu(tiny_study.config(tmp_path, top=top), tiny_study.study_of(settings), "retrain")
