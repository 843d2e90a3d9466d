"""Status: locks, saved states, logs and counts."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_study
from checkout import Checkout
from click.testing import CliRunner
from filelock import FileLock
from finished import NAME, copied, inside, study_of, tiny

from three_regime.cli import main
from three_regime.jobs.job import lock_file, state_file, state_files
from three_regime.planning import status
from three_regime.study.products import pack
from three_regime.training import saved_state
from three_regime.training.saved_state import SavedState


@pytest.fixture
def own(finished_tiny: Checkout, tmp_path: Path) -> Checkout:
    return copied(finished_tiny, tmp_path / "own")


def save(path: Path, *, epoch: int, step: int, wall_s: float) -> None:
    state = SavedState({"parameters": np.zeros(3, np.float32)}, epoch, step, [], wall_s)
    saved_state.save(path, state, key="any", threads=1, device="cpu", together=False)


def test_a_finished_study_runs_nothing(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        found = status.look(tiny())
    assert found.running == []
    assert found.counts == [
        (NAME, "dense", 2, 2), (NAME, "prune", 4, 4), (NAME, "retrain", 8, 8), (NAME, "lmc", 4, 4), (NAME, "cka", 4, 4),
    ]  # fmt: skip
    assert found.tables == {NAME: "up to date"}
    assert "Nothing is running" in status.render(found)


def test_tables_are_outdated_until_they_are_built_again(own: Checkout) -> None:
    with inside(own):
        study = study_of(tiny())
        pack(study, "lmc", 1, 4)[0].outputs[0].unlink()
        assert status.look(tiny()).tables == {NAME: "outdated"}, "they hold a result that is gone"
        for name in study.cell_tables:
            study.table(name).unlink()
        found = status.look(tiny())
        assert found.tables == {NAME: "not built"}
    assert status.render(found).splitlines()[-1].split("of 4")[-2:] == ["  4 ", "  not built"]


def test_a_running_job_is_shown_with_epoch_and_time_left(own: Checkout) -> None:
    with inside(own):
        study = study_of(tiny())
        third = pack(study, "retrain", 1, 4)[2]
        for path in third.outputs:
            path.unlink()
        save(state_file(study, third), epoch=1, step=4, wall_s=30.0)
        log = Path("results/tiny/logs/retrain/tiny/seed1-epochs004.log")
        log.parent.mkdir(parents=True)
        log.write_text("12:00:00 retrain tiny | INFO first\n12:00:05 retrain tiny | INFO epoch 1/3, 99 images/s\n")
        with FileLock(lock_file(study, "retrain", 1, 4.0, None)):
            found = status.look(tiny(), now=state_file(study, third).stat().st_mtime + 5)
        (job,) = found.running
        assert (job.stage, job.study, job.seed, job.temperature, job.done, job.members) == (
            "retrain", NAME, 1, 4.0, 3, 4,
        )  # fmt: skip
        assert job.member == third.label
        assert (job.epoch, job.epochs) == (1.5, 3), "four of eight steps into the second epoch"
        # 30 s for 1.5 epochs: 30 s more for the other half, of which 5 have passed.
        assert (job.since_saved_s, job.left_s) == (pytest.approx(5), pytest.approx(25))
        assert job.last_line == "INFO epoch 1/3, 99 images/s"
        text = status.render(found)
        assert "1.5 of 3" in text and "25 seconds" in text and "7 of 8" in text
        assert status.look(tiny()).running == [], "the lock was given back"


def test_members_not_begun_count_in_the_time_left(own: Checkout) -> None:
    with inside(own):
        study = study_of(tiny())
        second, third = pack(study, "retrain", 1, 4)[1:3]
        for path in (*second.outputs, *third.outputs):
            path.unlink()
        save(state_file(study, second), epoch=1, step=0, wall_s=10.0)
        with FileLock(lock_file(study, "retrain", 1, 4.0, None)):
            (job,) = status.look(tiny(), now=state_file(study, second).stat().st_mtime).running
    assert job.left_s == pytest.approx(20 + 30)


def test_members_that_advance_together_share_the_time(own: Checkout) -> None:
    with inside(own):
        study = study_of(tiny())
        members = pack(study, "retrain", 1, 4)
        for member in members:
            for path in member.outputs:
                path.unlink()
            save(state_file(study, member), epoch=2, step=0, wall_s=4.0)
        with FileLock(lock_file(study, "retrain", 1, 4.0, None)):
            (job,) = status.look(tiny(), now=state_file(study, members[-1]).stat().st_mtime).running
    assert job.member == f"{members[0].label} and 3 more"
    assert job.left_s == pytest.approx(4 * 2.0, abs=0.1), "2 s an epoch and member, one epoch left of each of four"


def test_one_dense_run_serves_all_temperatures(own: Checkout) -> None:
    with inside(own):
        study = study_of(tiny())
        last = pack(study, "dense", 1, 4)[0]
        last.outputs[0].unlink()
        save(state_file(study, last), epoch=3, step=0, wall_s=6.0)
        with FileLock(lock_file(study, "dense", 1, None, None)):
            (job,) = status.look(tiny(), now=state_file(study, last).stat().st_mtime).running
    assert (job.temperature, job.epoch, job.epochs, job.done, job.left_s) == (None, 3, 4, 1, pytest.approx(2))


def test_a_checkpoint_trained_anew_has_its_own_state(own: Checkout) -> None:
    """The state at the end of the dense run waits beside it."""
    with inside(own):
        study = study_of(tiny())
        first = pack(study, "dense", 1, 2)[0]
        first.outputs[0].unlink()
        end, anew = state_files(study, first)
        save(end, epoch=4, step=0, wall_s=8.0)
        with FileLock(lock_file(study, "dense", 1, None, None)):
            (waiting,) = status.look(tiny()).running
            save(anew, epoch=1, step=0, wall_s=2.0)
            (job,) = status.look(tiny(), now=anew.stat().st_mtime).running
    assert waiting.since_saved_s is None
    assert (job.epoch, job.epochs, job.left_s) == (1, 2, pytest.approx(2))


def test_rounds_of_pruning_are_one_run(own: Checkout) -> None:
    with inside(own):
        config = tiny(prune={"rounds": 3, "epochs": 2})
        study = study_of(config)
        products = pack(study, "prune", 1, 4)
        first, second = state_files(study, products[0])
        save(first, epoch=2, step=0, wall_s=4.0)
        save(second, epoch=1, step=0, wall_s=2.0)
        with FileLock(lock_file(study, "prune", 1, 4.0, None)):
            (job,) = status.look(config, now=second.stat().st_mtime).running
    assert (job.member, job.epoch, job.epochs) == (products[0].label, 3, 4)
    assert job.left_s == pytest.approx(2 * 1 + 2 * 4, abs=0.1), "2 s per epoch; the other density has not begun"


def test_a_curve_has_its_own_length(own: Checkout) -> None:
    with inside(own):
        config = tiny(measure={"also": ["bezier", "agreement"], "bezier": {"epochs": 6}})
        study = study_of(config)
        curves = [each for each in pack(study, "measures", 1, 4) if each.recipe["measure"] == "bezier"]
        [state] = state_files(study, curves[0])
        save(state, epoch=2, step=0, wall_s=10.0)
        with FileLock(lock_file(study, "measures", 1, 4.0, None)):
            (job,) = status.look(config, now=state.stat().st_mtime).running
    assert (job.member, job.epoch, job.epochs) == (curves[0].label, 2, 6)
    assert job.left_s == pytest.approx(5 * (4 + 6)), "two densities with a pair each"


def test_a_job_with_nothing_to_compute_has_no_time_left(own: Checkout) -> None:
    """Its last results have just been written, and it still holds its lock."""
    with inside(own), FileLock(lock_file(study_of(tiny()), "lmc", 1, 2.0, None)):
        (job,) = status.look(tiny()).running
    assert (job.done, job.members, job.left_s) == (2, 2, None)


def test_pairs_are_timed_by_those_that_are_done(own: Checkout) -> None:
    with inside(own):
        study = study_of(tiny())
        first, second = pack(study, "lmc", 1, 2)
        second.outputs[0].unlink()
        with FileLock(lock_file(study, "lmc", 1, 2.0, None)):
            (job,) = status.look(tiny(), now=first.outputs[0].stat().st_mtime).running
    assert (job.done, job.members) == (1, 2)
    assert job.since_saved_s is None and 0 < job.left_s < 30


def test_a_measure_is_timed_by_its_own_kind(own: Checkout) -> None:
    """Distances take milliseconds; they say nothing of the curves that are left."""
    with inside(own):
        tiny_study.run(tiny(measure={"also": ["distance"]}), "measures")
        config = tiny(measure={"also": ["distance", "bezier"]})
        study = study_of(config)
        products = pack(study, "measures", 1, 2)
        with FileLock(lock_file(study, "measures", 1, 2.0, None)):
            (job,) = status.look(config).running
    assert job.done == len(products) // 2 and job.left_s is None


def test_a_lock_that_may_only_be_read_is_seen(own: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the lock of another user is."""
    opened = open

    def for_reading(path: object, mode: str = "r", *args: object, **more: object) -> object:
        if set(mode) & set("wa+") and str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, mode, *args, **more)

    with inside(own), FileLock(lock_file(study_of(tiny()), "retrain", 1, 4.0, None)):
        monkeypatch.setattr("builtins.open", for_reading)
        (job,) = status.look(tiny()).running
    assert job.stage == "retrain"


def test_a_state_without_a_lock_is_not_running(own: Checkout) -> None:
    with inside(own):
        study = study_of(tiny())
        product = pack(study, "retrain", 1, 2)[0]
        save(state_file(study, product), epoch=1, step=0, wall_s=1.0)
        assert status.look(tiny()).running == []


def test_a_damaged_state_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"\x10")
    assert status.read_saved(tmp_path / "state.safetensors") is None
    assert status.read_saved(tmp_path / "none") is None


def test_a_real_run_is_seen_epoch_by_epoch(tmp_path: Path) -> None:
    changes = {"retrain": {"epochs": 2000, "milestones": []}, "measure": {"last_epochs": 1}}
    config = tiny_study.config(tmp_path, **changes)
    tiny_study.run_to(config, "prune")
    process = tiny_study.start(
        tiny_study.command(tmp_path, "retrain", "--temperature", "1", top={"state_every_s": 0.1}, **changes)
    )
    try:
        deadline = time.monotonic() + 30
        while not (seen := [job for job in status.look(config).running if job.epoch > 0 and "3 more" in job.member]):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        command = ["status", "--base", str(tmp_path / "config.yaml")]
        shown = CliRunner().invoke(main, command)
        # Members that advance together are saved one after the other: between two saves fewer stand side by side.
        assert re.search(
            r"retrain +tiny +1 +1 +density 10 %, replica \d( and \d more)? +[\d.]+ of 2000", shown.output
        ), shown.output
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert (seen[0].member, seen[0].epochs, seen[0].done) == ("density 10 %, replica 1 and 3 more", 2000, 0)
    assert seen[0].left_s > 0
    assert status.look(config).running == []


def test_it_can_be_shown_again_and_again(finished_tiny: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", nap)
    with inside(finished_tiny):
        ended = CliRunner().invoke(main, ["status", "--configfile", "config/tiny.yaml", "--watch", "3"])
    assert naps == [3, 3]
    assert ended.output.count("Nothing is running") == 2
