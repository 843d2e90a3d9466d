"""Packs in lock-step: each member's result is independent of the others, of cuts, stops, kills and resumption."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pack_members import SGD, last, pack_of, position_of, train_members
from toy_task import StopAfter, assert_same, session, settings

from three_regime.config import Training
from three_regime.errors import Interrupted, UserError
from three_regime.tasks.images.stacked import ImageStack
from three_regime.tasks.strategies import Alone
from three_regime.training import saved_state
from three_regime.training.pack import Flat

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": SGD,
    "sam": {**SGD, "sam_rho": 0.1},
    "adam": {**SGD, "optimiser": "adam", "learning_rate": 0.01},
    "clipped": {**SGD, "clip_norm": 0.1},
    "short": {**SGD, "epochs": 1, "milestones": ()},
    "iterations": {"iterations": 6, "milestones": (3,), "batch_size": 24, "drop_last": True},
}


@pytest.mark.parametrize(
    ("chosen", "threads"), [("sgd", 1), ("sam", 1), ("adam", 1), ("clipped", 1), ("iterations", 1), ("short", 2)]
)
def test_a_member_is_the_same_in_any_pack(tmp_path, digits, chosen, threads):
    """To the last bit: five together, in chunks of at most two, and each alone."""
    training = Training.model_validate(SETTINGS[chosen])
    found = {}
    for name, lockstep, alone in (("five", "auto", False), ("two", 2, False), ("alone", "auto", True)):
        pack = pack_of(digits, tmp_path / name)
        about = replace(session(evaluate_last=2, lockstep=lockstep), threads=threads)
        for part in [{label: pack[label]} for label in pack] if alone else [pack]:
            train_members(digits, part, training, about)
        found[name] = {label: last(pack, label) for label in pack}
    torch.set_num_threads(1)
    for label, checkpoint in found["five"].items():
        assert checkpoint.together == 5
        assert_same(found["two"][label], checkpoint)
        assert_same(found["alone"][label], checkpoint)
    assert not any(Path(tmp_path).rglob("*.state")), "the state of a finished member is removed"


@pytest.mark.parametrize("chosen", ["sgd", "sam", "adam"])
def test_together_equals_one_after_another_but_for_rounding(tmp_path, digits, chosen):
    training = Training.model_validate(SETTINGS[chosen])
    pack, apart = pack_of(digits, tmp_path / "a", 3), pack_of(digits, tmp_path / "b", 3)
    train_members(digits, pack, training)
    train_members(digits, apart, training, session(evaluate_last=2, lockstep="off"))
    for label in pack:
        ours, theirs = last(pack, label), last(apart, label)
        assert (ours.together, theirs.together) == (3, 0)
        for name, value in ours.weights.items():
            np.testing.assert_allclose(value, theirs.weights[name], rtol=2e-3, atol=2e-4, err_msg=name)
        for mine, other in zip(ours.history, theirs.history, strict=True):
            assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
            assert mine["test_nll"] == pytest.approx(other["test_nll"], rel=1e-2)
            assert mine["test_error"] == pytest.approx(other["test_error"], abs=1.5 / 50)


def test_masks_stay_each_members_own(together, digits, tmp_path):
    for label, (member, _) in pack_of(digits, tmp_path).items():
        weights = together[label].weights
        for name, mask in member.masks.items():
            assert (weights[name][~mask] == 0).all() and (weights[name][mask] != 0).any()


def test_the_timing_changes_nothing(digits, tmp_path, together):
    from three_regime.training.trainer import _seconds

    pack = pack_of(digits, tmp_path)
    members = [member for member, _ in pack.values()]
    for stack in (digits.stack("auto"), Alone(digits)):
        assert _seconds(digits, settings(**SGD), members, stack) > 0
    train_members(digits, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


def test_rows_of_a_flat_stack_are_views():
    flat = Flat({"a": (2, 3), "b": ()})
    rows = torch.arange(14.0).view(2, 7)
    views = flat.views(rows)
    assert views["a"].shape == (2, 2, 3) and views["b"].tolist() == [6, 13]
    views["b"].fill_(1)
    assert rows[:, 6].tolist() == [1, 1]


# -- interruptions


@pytest.mark.parametrize("asked", [1, 3, 4, 7])
def test_a_stopped_pack_continues_bit_identical(tmp_path, digits, together, asked):
    pack = pack_of(digits, tmp_path)
    with pytest.raises(Interrupted, match=r"a test: density 0.1, replica 1 and 4 more saved in"):
        train_members(digits, pack, settings(**SGD), session(evaluate_last=2, stop=StopAfter(asked)))
    positions = [position_of(member) for member, _ in pack.values()]
    assert len(set(positions)) == 1 and positions[0] > (0, 0)
    train_members(digits, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


@pytest.mark.parametrize("kill_at", [7, 13])
def test_killed_between_two_saves_the_members_behind_catch_up(tmp_path, digits, together, monkeypatch, kill_at, caplog):
    """Some states are one step ahead of the others; all catch up and finish together, bit-identical."""
    pack = pack_of(digits, tmp_path)
    save, saves = saved_state.save, itertools.count(1)

    def dying(*arguments: Any, **named: Any) -> None:
        if next(saves) == kill_at:
            raise Killed
        save(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(saved_state, "save", dying)
        with pytest.raises(Killed):
            train_members(digits, pack, settings(**SGD), session(state_every_s=0, evaluate_last=2))
    assert len({position_of(member) for member, _ in pack.values()}) == 2
    with caplog.at_level("INFO"):
        train_members(digits, pack, settings(**SGD))
    assert "from different steps" in caplog.text
    for label in pack:
        assert_same(last(pack, label), together[label])
        assert last(pack, label).together == 5


def test_a_finished_or_new_member_does_not_disturb_the_others(tmp_path, digits, together):
    """Two members start and three join later, as for a density added to the grid."""
    pack = pack_of(digits, tmp_path)
    first = dict(itertools.islice(pack.items(), 2))
    with pytest.raises(Interrupted):
        train_members(digits, first, settings(**SGD), session(evaluate_last=2, stop=StopAfter(3)))
    train_members(digits, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


def test_a_signal_during_delivery_keeps_what_was_delivered(tmp_path, digits, together):
    pack = pack_of(digits, tmp_path)
    about = session(evaluate_last=2)
    second = list(pack)[1]
    member, delivered = pack[second]

    def signalled(checkpoint: Any) -> None:
        about.stop.signalled(15, None)
        pytest.fail("went on after the signal")

    disturbed = {**pack, second: (replace(member, deliver=signalled), delivered)}
    with pytest.raises(Interrupted, match="SIGTERM"):
        train_members(digits, disturbed, settings(**SGD), about)
    assert [len(delivered) for _, delivered in pack.values()] == [1, 0, 0, 0, 0]
    assert [member.state.exists() for member, _ in pack.values()] == [False, True, True, True, True]
    train_members(digits, {label: pack[label] for label in list(pack)[1:]}, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


def test_a_pack_may_change_to_a_machine_without_a_compiler(tmp_path, digits, together, monkeypatch):
    """Also if an earlier version began it, which recorded the kernels of the process."""
    pack = pack_of(digits, tmp_path)
    with monkeypatch.context() as before:
        before.setattr(ImageStack, "computed_with", "fused")
        with pytest.raises(Interrupted):
            train_members(digits, pack, settings(**SGD), session(evaluate_last=2, stop=StopAfter(3)))
    assert {saved_state.written_with(member.state, member.key) for member, _ in pack.values()} == {"fused"}
    train_members(digits, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])
        assert last(pack, label).computed_with == "plain"


def test_a_state_of_the_other_way_is_refused(tmp_path, digits):
    pack = pack_of(digits, tmp_path, 1)
    with pytest.raises(Interrupted):
        train_members(digits, pack, settings(**SGD), session(stop=StopAfter(2)))
    with pytest.raises(UserError, match=r"advanced in lock-step, and now they advance one after another.*`lockstep`"):
        train_members(digits, pack, settings(**SGD), session(lockstep="off"))
