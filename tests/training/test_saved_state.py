"""Kill and resume: states on disk, and real processes ended by signals."""

from __future__ import annotations

import functools
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_study import command, config, digests, products, run, run_to, start
from toy_task import Quadratic, assert_same, session, settings, train

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.study.fingerprints import stored_fingerprint
from three_regime.system.files import read_arrays, read_json, write_arrays, write_json
from three_regime.training import saved_state
from three_regime.training.saved_state import SavedState

STATE = SavedState(
    {"parameters": np.arange(4, dtype=np.float32), "slot:momentum": np.ones(4, np.float32), "seen": np.array(6)},
    epoch=3, step=2, history=[{"epoch": 1, "train_loss": 0.1 + 0.2}], wall_s=1.5,
)  # fmt: skip
MINE = {"key": "mine", "threads": 1, "device": "cpu", "together": False}


# -- the file


def test_a_state_comes_back_exactly(tmp_path):
    saved_state.save(tmp_path / "state", STATE, **MINE)
    found = saved_state.load(tmp_path / "state", **MINE)
    assert (found.epoch, found.step, found.history, found.wall_s) == (3, 2, STATE.history, 1.5)
    assert found.arrays.keys() == STATE.arrays.keys()
    for name, array in STATE.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype


def test_no_state_is_no_message(tmp_path, caplog):
    assert saved_state.load(tmp_path / "absent", **MINE) is None
    assert not caplog.records


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x10
    path.write_bytes(content)


SPOILT = {
    "empty": lambda path: path.write_bytes(b""),
    "half-written": half,
    "one bit flipped": flipped,
    "text": lambda path: path.write_text("hello"),
    "other arrays": lambda path: write_arrays(path, {"w": np.ones(3)}, {}),
    "other metadata": lambda path: write_arrays(path, {"w": np.ones(3)}, {"state": "{}"}),
    "a list": lambda path: write_arrays(path, {"w": np.ones(3)}, {"state": "[1]"}),
    "no JSON": lambda path: write_arrays(path, {"w": np.ones(3)}, {"state": "{"}),
    "another run": lambda path: saved_state.save(path, STATE, **{**MINE, "key": "yours"}),
    "another device": lambda path: saved_state.save(path, STATE, **{**MINE, "device": "cuda"}),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_state_that_cannot_be_used_is_ignored_with_a_warning(tmp_path, caplog, how):
    saved_state.save(tmp_path / "state", STATE, **MINE)
    SPOILT[how](tmp_path / "state")
    assert saved_state.load(tmp_path / "state", **MINE) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "ignoring the training state" in record.message and str(tmp_path / "state") in record.message


@pytest.mark.parametrize("how", ["empty", "half-written", "text", "other arrays", "a list", "no JSON", "another run"])
def test_kernels_of_a_state_that_cannot_be_used_are_unknown(tmp_path, how):
    assert saved_state.written_with(tmp_path / "none", MINE["key"]) is None
    saved_state.save(tmp_path / "state", STATE, **MINE, computed_with="sparse")
    assert saved_state.written_with(tmp_path / "state", MINE["key"]) == "sparse"
    SPOILT[how](tmp_path / "state")
    assert saved_state.written_with(tmp_path / "state", MINE["key"]) is None
    assert saved_state.written_together(tmp_path / "state", MINE["key"]) is False


@pytest.mark.parametrize("how", ["half-written", "other metadata", "another run"])
def test_the_result_is_right_after_a_spoilt_state(tmp_path, how):
    expected = train(Quadratic(), tmp_path / "clean", settings())[4]
    saved_state.save(tmp_path / "state", STATE, **{**MINE, "key": "key"})
    SPOILT[how](tmp_path / "state")
    assert_same(train(Quadratic(), tmp_path / "state", settings())[4], expected)


def test_another_thread_count_is_refused_naming_both(tmp_path):
    saved_state.save(tmp_path / "state", STATE, **MINE)
    with pytest.raises(UserError, match=r"state .*1 CPU threads .*this run has 4.*`threads: 1`"):
        saved_state.load(tmp_path / "state", **{**MINE, "threads": 4})
    assert (tmp_path / "state").exists()


@pytest.mark.parametrize(("written", "present"), [("fused", "plain"), ("plain", "fused"), ("plain", "sparse")])
def test_other_kernels_are_refused_except_in_lock_step(tmp_path, written, present):
    """In lock-step torch computes, although earlier versions recorded the kernels of the process."""
    saved_state.save(tmp_path / "state", STATE, **MINE, computed_with=written)
    with pytest.raises(UserError, match=f"was written with {written} kernels and this run has {present} ones"):
        saved_state.load(tmp_path / "state", **MINE, computed_with=present)
    together = {**MINE, "together": True}
    saved_state.save(tmp_path / "state", STATE, **together, computed_with=written)
    assert saved_state.load(tmp_path / "state", **together, computed_with=present).step == STATE.step


def test_the_thread_count_of_a_gpu_run_does_not_matter(tmp_path):
    saved_state.save(tmp_path / "state", STATE, **{**MINE, "device": "cuda"})
    assert saved_state.load(tmp_path / "state", **{**MINE, "threads": 7, "device": "cuda"}) is not None


def test_wall_time_adds_up_over_interruptions(tmp_path):
    training = settings(epochs=2, milestones=())
    train(Quadratic(), tmp_path / "state", training, keep_state=True, checkpoints=(1,))
    state = saved_state.load(tmp_path / "state", key="key", threads=1, device="cpu", together=False)
    later = SavedState(state.arrays, state.epoch, state.step, state.history, 1000.0)
    saved_state.save(tmp_path / "state", later, key="key", threads=1, device="cpu", together=False)
    assert 1000 < train(Quadratic(), tmp_path / "state", training)[2].wall_s < 1100


def test_the_time_interval_is_kept(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(saved_state, "save", lambda *_, **__: saved.append(None))
    train(Quadratic(steps=5), tmp_path / "a", settings(), session(state_every_s=3600))
    assert not saved
    train(Quadratic(steps=5), tmp_path / "b", settings(), session(state_every_s=0))
    assert len(saved) == 20


# -- real processes

LONG: dict[str, Any] = {
    "temperatures": [8],
    "densities": [0.5],
    "replicas": [1, 2],
    "dense": {"epochs": 8, "milestones": [6], "batch_size": 8},
    "retrain": {"epochs": 6, "milestones": [4], "batch_size": 4},
}
OFTEN = {"state_every_s": 0.02}


def histories(settings_of: Config, stage: str) -> list:
    return [read_json(product.outputs[0])["history"] for product in products(settings_of, stage)]


@pytest.fixture(scope="module")
def before_retraining(tmp_path_factory) -> Path:
    """Folder in which all stages up to pruning are complete."""
    folder = tmp_path_factory.mktemp("before")
    run_to(config(folder, **LONG), "prune")
    return folder


@pytest.fixture(scope="module")
def expected(before_retraining, tmp_path_factory) -> dict[str, Any]:
    """Tensors and histories of an uninterrupted study."""
    settings_of = prepared(tmp_path_factory.mktemp("whole"), "retrain", before_retraining)
    run(settings_of, "retrain")
    return {stage: (digests(settings_of, stage), histories(settings_of, stage)) for stage in ("dense", "retrain")}


def prepared(folder: Path, stage: str, before_retraining: Path) -> Config:
    """The study with all stages before `stage` complete."""
    if stage == "retrain":
        shutil.copytree(before_retraining, folder, dirs_exist_ok=True)
    return config(folder, top=OFTEN, **LONG)


def states(folder: Path, stage: str) -> list[Path]:
    return sorted((folder / "results" / ".state").rglob(f"{stage}.state.safetensors"))


def wait_for_state(folder: Path, stage: str, process: subprocess.Popen, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not states(folder, stage):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no training state was written"
        time.sleep(0.005)


def check(settings_of: Config, stage: str, expected: dict[str, Any]) -> None:
    assert digests(settings_of, stage) == expected[stage][0]
    assert histories(settings_of, stage) == expected[stage][1]


@pytest.mark.parametrize(("stage", "seed"), [("dense", 1), ("retrain", 2)])
def test_killed_at_random_moments_a_run_ends_bit_identical(tmp_path, expected, before_retraining, stage, seed):
    """SIGKILL twice, at times drawn with a fixed seed; the third process finishes the run."""
    settings_of = prepared(tmp_path, stage, before_retraining)
    arguments = command(tmp_path, stage, top=OFTEN, **LONG)
    generator = random.Random(seed)
    kills = 0
    for _ in range(2):
        process = start(arguments)
        wait_for_state(tmp_path, stage, process)
        time.sleep(generator.uniform(0, 0.4))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        process.stderr.close()
    assert kills, "every run had ended before it was killed"
    run(settings_of, stage)
    check(settings_of, stage, expected)
    assert all(stored_fingerprint(path) for product in products(settings_of, stage) for path in product.outputs)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP", "SIGTERM to the group"])
def test_asked_to_stop_a_run_saves_and_a_new_one_continues(tmp_path, expected, before_retraining, how):
    settings_of = prepared(tmp_path, "retrain", before_retraining)
    arguments = command(tmp_path, "retrain", top={"state_every_s": 3600}, **LONG)
    usual = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # not as under nohup
    process = start(arguments, start_new_session=True, preexec_fn=usual)
    line = ""
    while "advance together" not in line:  # the training begins
        line = process.stderr.readline()
        assert line, "ended before it was signalled"
    time.sleep(0.1)  # some steps, unless the machine is very slow
    began = time.monotonic()
    if how.endswith("group"):
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.send_signal(getattr(signal, how))
    log = process.communicate(timeout=60)[1]
    assert process.returncode == 143, log
    assert time.monotonic() - began < 10
    assert f"received {how.split()[0]}" in log and "Traceback" not in log
    saved = [json.loads(saved_state.read_metadata(state)["state"]) for state in states(tmp_path, "retrain")]
    (moment,) = {(about["epoch"], about["step"]) for about in saved}
    assert len(saved) == len(LONG["replicas"]) and moment >= (0, 0), "of every member, and of the same moment"
    run(settings_of, "retrain")
    check(settings_of, "retrain", expected)
    assert not states(tmp_path, "retrain"), "the state of a finished replica is removed"


def test_another_thread_count_is_refused_and_loses_nothing(tmp_path, expected):
    settings_of = config(tmp_path, top=OFTEN, **LONG)
    process = start(command(tmp_path, "dense", top=OFTEN, **LONG))
    wait_for_state(tmp_path, "dense", process)
    process.kill()
    process.communicate()
    before = read_arrays(states(tmp_path, "dense")[0])
    other = config(tmp_path, top={**OFTEN, "threads": 2}, **LONG)
    with pytest.raises(UserError, match="1 CPU threads and this run has 2"):
        run(other, "dense")
    after = read_arrays(states(tmp_path, "dense")[0])
    assert all(np.array_equal(before[name], after[name]) for name in before)
    run(settings_of, "dense")
    check(settings_of, "dense", expected)


def test_a_run_with_a_foreign_state_in_its_place_is_right(tmp_path, expected, caplog):
    settings_of = config(tmp_path, top=OFTEN, **LONG)
    place = tmp_path / "results" / ".state" / "tiny" / "seed1" / "dense.state.safetensors"
    write_json(place, {"not": "a state"})
    run(settings_of, "dense")
    assert f"ignoring the training state {place}" in caplog.text
    check(settings_of, "dense", expected)
