"""Which way members of a pack advance, and how packs are cut."""

from __future__ import annotations

import itertools

import pytest
import torch
from digits_task import digits_task
from tiny_study import STUDY
from toy_task import Quadratic, settings, train

from three_regime.tasks.images.stacked import ImageStack
from three_regime.tasks.pack_sizes import evenly
from three_regime.tasks.strategies import Alone, choose


def test_a_task_that_cannot_stack_advances_one_after_another(tmp_path):
    assert isinstance(choose(Quadratic(), 9, lambda _: 0.0), Alone)
    assert train(Quadratic(), tmp_path / "state", settings())[4].together == 0


@pytest.mark.parametrize("faster", [True, False])
def test_on_a_gpu_a_timing_decides(faster):
    digits = digits_task(STUDY["model"], allowed="plain")

    class Elsewhere:
        """The image task, as far as `choose` looks, on a GPU."""

        device = torch.device("cuda")

        def stack(self, choice: str) -> ImageStack | None:
            return digits.stack(choice)

    found = choose(Elsewhere(), "auto", lambda stack: 1.0 if stack.together == faster else 2.0)
    assert found.together == faster


def test_packs_are_cut_evenly():
    assert evenly(10, 32) == [10] and evenly(33, 32) == [17, 16] and evenly(27, 9) == [9, 9, 9] and evenly(0, 4) == []
    for count, most in itertools.product(range(1, 40), range(1, 12)):
        sizes = evenly(count, most)
        assert sum(sizes) == count and max(sizes) <= most and max(sizes) - min(sizes) <= 1
