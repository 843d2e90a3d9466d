"""The step schedule: milestones are completed epochs or iterations."""

from __future__ import annotations

import pytest
from toy_task import Quadratic, rows, settings, train

from three_regime.training.learning_rate import learning_rate

PAPER = settings(epochs=160, milestones=(80, 120))


@pytest.mark.parametrize(
    ("completed", "rate"), [(0, 0.1), (79, 0.1), (80, 0.01), (119, 0.01), (120, 0.001), (159, 0.001)]
)
def test_the_rate_after_completed_epochs(completed, rate):
    assert learning_rate(PAPER, completed, completed * 782) == pytest.approx(rate, rel=1e-12)


def test_iterations_change_nothing_in_a_schedule_by_epoch():
    assert {learning_rate(PAPER, 79, 79 * 782 + step) for step in range(782)} == {0.1}


def test_milestones_by_iteration_fall_within_an_epoch():
    by_iteration = settings(epochs=None, iterations=62_400, milestones=(31_200, 46_800))
    assert learning_rate(by_iteration, 39, 31_199) == 0.1
    assert learning_rate(by_iteration, 39, 31_200) == pytest.approx(0.01)
    assert learning_rate(by_iteration, 39, 46_799) == pytest.approx(0.01)
    assert learning_rate(by_iteration, 39, 46_800) == pytest.approx(0.001)


def test_lengths():
    assert PAPER.iterations_of(782) == 160 * 782
    assert settings(epochs=None, iterations=62_400, milestones=()).iterations_of(782) == 62_400


def test_a_checkpoint_at_a_milestone_saw_only_the_old_rate(tmp_path):
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
def test_an_inverse_square_root_needs_a_warm_up(wrong):
    with pytest.raises(ValueError, match="schedule inverse_sqrt"):
        settings(**{**WARM, **wrong})


@pytest.mark.parametrize(
    ("schedule", "rates"), [("linear", (0.1, 0.075, 0.05, 0.001)), ("cosine", (0.1, 0.0853553, 0.05, 0.0000247))]
)
@pytest.mark.parametrize("length", [{"epochs": 11, "iterations": None}, {"epochs": None, "iterations": 110}])
def test_after_the_warm_up_the_rate_falls_to_zero(schedule, rates, length):
    """Steps 10 to 110: the last one, 109, has the hundredth part of a straight line left."""
    training = settings(schedule=schedule, warmup=10, warmup_start=0.0, milestones=(), **length)
    assert [learning_rate(training, 0, step, 10) for step in (0, 5)] == [0.0, pytest.approx(0.05)]
    found = [learning_rate(training, 0, step, 10) for step in (10, 35, 60, 109)]
    assert found == pytest.approx(rates, rel=1e-2)
    assert learning_rate(training, 0, 110, 10) == pytest.approx(0, abs=1e-15)


def test_milestones_follow_a_warm_up():
    training = settings(warmup=20, warmup_start=0.0, milestones=(3,))
    assert learning_rate(training, 0, 10, 10) == pytest.approx(0.05)
    assert [learning_rate(training, epoch, 10 * epoch, 10) for epoch in (2, 3)] == pytest.approx([0.1, 0.01])


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup 10 must be less than the 10 iterations"):
        settings(epochs=None, iterations=10, milestones=(), warmup=10, schedule="linear")


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_trained_run_ends_with_the_last_rate_of_its_schedule(schedule, tmp_path):
    training = settings(schedule=schedule, warmup=2, milestones=())
    steps, epochs = Quadratic().steps, training.epochs
    (end,) = train(Quadratic(), tmp_path / "state", training)
    wanted = [learning_rate(training, epoch, (epoch + 1) * steps - 1, steps) for epoch in range(epochs)]
    assert rows(end, "learning_rate") == pytest.approx(wanted)
    assert wanted[-1] < 0.1 * training.learning_rate


@pytest.mark.parametrize(("milestone", "recorded"), [(9, [0.1, 0.01]), (10, [0.1, 0.1])])
def test_the_history_has_the_rate_of_an_epochs_last_step(tmp_path, milestone, recorded):
    """Of 10 steps the last is taken after 9: a milestone there still changes it, one behind it does not."""
    training = settings(epochs=None, iterations=10, milestones=(milestone,))
    (checkpoint,) = train(Quadratic(steps=5), tmp_path / "state", training)
    assert rows(checkpoint, "learning_rate") == pytest.approx(recorded)
