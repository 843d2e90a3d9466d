"""Packs in lock-step with a member that diverges, or whose result cannot be delivered."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pack_members import SGD, assert_others_unharmed, last, pack_of, position_of, refusing, train_members
from toy_task import Delivered, Quadratic, assert_same, member, session, settings

from three_regime.errors import Diverged, Interrupted, UserError
from three_regime.tasks.images.stacked import ImageStack
from three_regime.training.trainer import train_pack


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_diverging_member_does_not_stop_the_others(tmp_path, digits, together, bad):
    pack = pack_of(digits, tmp_path)
    label = list(pack)[bad]
    member, delivered = pack[label]
    start = {**member.start, "fc.weight": np.full_like(member.start["fc.weight"], np.nan)}
    pack[label] = replace(member, start=start), delivered
    with pytest.raises(UserError, match=rf"{label}: the loss is not finite in epoch 1, step 1 .*learning rate"):
        train_members(digits, pack, settings(**SGD))
    assert not delivered and not member.state.exists()
    assert_others_unharmed(pack, label, together)


def test_a_member_that_diverges_later_leaves_its_earlier_state(tmp_path, digits, together, monkeypatch):
    """In the middle of the second epoch: the losses of one row become infinite."""
    pack = pack_of(digits, tmp_path)
    label = list(pack)[1]
    loss, passes = ImageStack.loss, itertools.count()

    def spoilt(self: ImageStack, *arguments: Any) -> Any:
        losses, errors, count = loss(self, *arguments)
        if len(losses) == 6 and next(passes) == 6:  # five members and a row to fill up
            losses = losses * torch.tensor([1.0, float("inf"), *[1.0] * (len(losses) - 2)])
        return losses, errors, count

    monkeypatch.setattr(ImageStack, "loss", spoilt)
    with pytest.raises(UserError, match=rf"{label}: the loss is not finite in epoch 2, step 3"):
        train_members(digits, pack, settings(**SGD), session(state_every_s=0, evaluate_last=2))
    assert position_of(pack[label][0]) == (1, 2)
    assert_others_unharmed(pack, label, together)


def test_a_test_loss_that_is_not_finite_costs_that_member_alone(tmp_path, digits, together, monkeypatch):
    pack = pack_of(digits, tmp_path)
    label = list(pack)[3]
    evaluate = ImageStack.evaluate

    def spoilt(self: ImageStack, *arguments: Any) -> Any:
        found = evaluate(self, *arguments)
        return [replace(each, nll=float("nan")) if row == 3 else each for row, each in enumerate(found)]

    with monkeypatch.context() as patched:
        patched.setattr(ImageStack, "evaluate", spoilt)
        with pytest.raises(UserError, match=rf"{label}: the test loss is not finite after epoch 1"):
            train_members(digits, dict(itertools.islice(pack.items(), 4)), settings(**SGD))
    assert not pack[label][1]
    first = next(iter(pack))
    assert_same(last(pack, first), together[first])


def test_a_result_that_is_no_number_costs_that_member_alone(tmp_path, digits, together):
    pack = pack_of(digits, tmp_path)
    label = list(pack)[1]
    refusing(pack, label, Diverged("the training loss is infinite"))
    with pytest.raises(UserError, match=rf"{label}: a result is not a finite number after epoch 2 .*learning rate"):
        train_members(digits, pack, settings(**SGD))
    assert_others_unharmed(pack, label, together)


def test_an_interrupted_delivery_may_diverge_too(tmp_path, digits, together):
    """It is delivered first when the pack continues, while another member starts anew."""
    pack = pack_of(digits, tmp_path)
    about = session(evaluate_last=2)
    third = list(pack)[2]
    undisturbed = pack[third]
    refusing(pack, third, Interrupted("asked to stop"))
    with pytest.raises(Interrupted):
        train_members(digits, pack, settings(**SGD), about)
    pack[third] = undisturbed
    refusing(pack, third, Diverged("the training loss is infinite"))
    with pytest.raises(UserError, match=f"{third}: a result is not a finite number"):
        train_members(digits, pack, settings(**SGD))
    assert_others_unharmed(pack, third, together)


def test_a_full_disk_stops_the_pack(tmp_path, digits):
    pack = pack_of(digits, tmp_path)
    second = list(pack)[1]
    refusing(pack, second, UserError("no free disk space"))
    with pytest.raises(UserError, match="^no free disk space$"):
        train_members(digits, pack, settings(**SGD))
    assert [len(delivered) for _, delivered in pack.values()] == [1, 0, 0, 0, 0]


def test_members_one_after_another_go_on_after_a_failure_too(tmp_path):
    task = Quadratic(steps=2)
    first, second = Delivered(), Delivered()
    good = member(task, tmp_path / "good", second, label="good")
    bad = member(task, tmp_path / "bad", first, label="bad", start={**good.start, "w": np.full(6, np.nan, np.float32)})
    with pytest.raises(UserError, match="bad: the loss is not finite in epoch 1, step 1"):
        train_pack(task, settings(), [bad, good], session())
    assert not first and len(second) == 1
