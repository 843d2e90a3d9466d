"""The step schedule: milestones are completed epochs or iterations."""

from __future__ import annotations

import pytest
from toy_task import Quadratic, rows, settings, train

from three_regime.schedule import learning_rate, length_in_iterations

PAPER = settings(epochs=160, milestones=(80, 120))


@pytest.mark.parametrize(
    ("completed", "rate"), [(0, 0.1), (79, 0.1), (80, 0.01), (119, 0.01), (120, 0.001), (159, 0.001)]
)
def test_the_rate_after_completed_epochs(completed, rate):
    assert learning_rate(PAPER, completed, completed * 782) == pytest.approx(rate, rel=1e-12)


def test_iterations_within_an_epoch_change_nothing_in_a_schedule_by_epoch():
    assert {learning_rate(PAPER, 79, 79 * 782 + step) for step in range(782)} == {0.1}


def test_milestones_by_iteration_fall_within_an_epoch():
    by_iteration = settings(epochs=None, iterations=62_400, milestones=(31_200, 46_800))
    assert learning_rate(by_iteration, 39, 31_199) == 0.1
    assert learning_rate(by_iteration, 39, 31_200) == pytest.approx(0.01)
    assert learning_rate(by_iteration, 39, 46_799) == pytest.approx(0.01)
    assert learning_rate(by_iteration, 39, 46_800) == pytest.approx(0.001)


def test_lengths():
    assert length_in_iterations(PAPER, 782) == 160 * 782
    assert length_in_iterations(settings(epochs=None, iterations=62_400, milestones=()), 782) == 62_400


def test_the_checkpoint_at_a_milestone_has_seen_only_the_old_rate(tmp_path):
    """Checkpoint 2 is the same whether or not the rate falls after epoch 2; epoch 3 uses the lower one."""
    falling = train(Quadratic(), tmp_path / "a", settings(milestones=(2,)), checkpoints=(2, 3))
    constant = train(Quadratic(), tmp_path / "b", settings(milestones=()), checkpoints=(2, 3))
    assert (falling[2].weights["w"] == constant[2].weights["w"]).all()
    assert (falling[3].weights["w"] != constant[3].weights["w"]).any()
    assert rows(falling[3], "learning_rate") == pytest.approx([0.1, 0.1, 0.01])


def test_a_run_by_iterations_ends_within_an_epoch(tmp_path):
    training = settings(epochs=None, iterations=13, milestones=(7,))
    delivered = train(Quadratic(steps=5), tmp_path / "state", training)
    (checkpoint,) = delivered
    assert checkpoint.epoch == 3
    assert checkpoint.weights["seen"] == 13
    assert rows(checkpoint, "iterations") == [5, 10, 13]
    assert rows(checkpoint, "learning_rate") == pytest.approx([0.1, 0.01, 0.01])


WARM = {"schedule": "inverse_sqrt", "warmup": 4000, "warmup_start": 1e-7, "learning_rate": 5e-4, "milestones": ()}


@pytest.mark.parametrize(
    ("completed", "rate"), [(0, 1e-7), (2000, (5e-4 + 1e-7) / 2), (4000, 5e-4), (16_000, 2.5e-4), (400_000, 5e-5)]
)
def test_warm_up_and_inverse_square_root(completed, rate):
    assert learning_rate(settings(**WARM), 0, completed) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("wrong", [{"warmup": 0}, {"milestones": (2,)}])
def test_an_inverse_square_root_needs_a_warm_up_and_no_milestones(wrong):
    with pytest.raises(ValueError, match="inverse_sqrt"):
        settings(**{**WARM, **wrong})
