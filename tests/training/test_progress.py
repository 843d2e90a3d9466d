"""Progress: the time left of a pack whose members start at different steps, diverge, or wait for others."""

from __future__ import annotations

import logging

import pytest
from toy_task import Delivered, Quadratic, member, session, settings

from three_regime.errors import UserError
from three_regime.training import progress, trainer
from three_regime.training.progress import Progress


def test_the_time_left_counts_every_run_once(monkeypatch, caplog):
    """Two runs of ten steps, of which four and six are made, and a third that waits; 2 s for two steps."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    pack = Progress(3)
    pack.begin(10, [4, 6])
    assert pack.left == 6 + 4 + 10
    for _ in range(2):  # the run behind catches up
        pack.advance(8, 1)
    clock[0] = 2.0
    with caplog.at_level(logging.INFO):
        pack.report("toy", always=True)
    assert "18 seconds left" in caplog.text
    pack.advance(8, 2)
    pack.drop(1, 7)
    assert pack.left == 3 + 10
    pack.begin(10, [0])
    assert pack.left == 10


@pytest.mark.parametrize("diverging", [True, False])
def test_at_the_end_of_a_pack_nothing_is_left(tmp_path, monkeypatch, diverging):
    made: list[Progress] = []

    class Kept(Progress):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(trainer, "Progress", Kept)
    task = Quadratic(steps=5)
    value = task.value
    task.value = lambda parameters, x: value(parameters, x) * (float("nan") if diverging and task.passes == 8 else 1)
    pack = [member(task, tmp_path / name, Delivered(), label=name) for name in "ab"]
    if diverging:
        with pytest.raises(UserError, match="a: the loss is not finite in epoch 2, step 3"):
            trainer.train_pack(task, settings(), pack, session())
    else:
        trainer.train_pack(task, settings(), pack, session())
    assert made[0].left == 0
