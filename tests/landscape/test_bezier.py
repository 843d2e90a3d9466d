"""Bezier curves on a ring, where the best bend is known: the line has a barrier, the trained curve hardly any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from digits_task import digits_task
from scipy.optimize import minimize_scalar
from toy_task import settings, train

from three_regime import kernels
from three_regime.landscape.bezier import CurveTask, middle, on_curve
from three_regime.landscape.mode_connectivity import barrier, positions
from three_regime.models.initialisation import initial_weights
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks
from three_regime.tasks.interface import Metrics

ENDS = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class Steps:
    steps: int = 40

    def micro_batches(self, step: int) -> tuple[int]:
        return (step,)


class Ring:
    """Loss (x² + y² − 1)² + (z − 1)²; z is removed, so it must stay 0 whatever its gradient says."""

    unit, device, prunable = "images", torch.device("cpu"), ("w",)
    parameters, buffers = {"w": (3,)}, {}

    def value(self, w: torch.Tensor) -> torch.Tensor:
        return (w[0] ** 2 + w[1] ** 2 - 1) ** 2 + (w[2] - 1) ** 2

    def epoch(self, streams, epoch, training):
        return Steps()

    def loss(self, parameters, buffers, batch):
        return self.value(parameters["w"]), torch.tensor(0), 1

    def targets(self, batch):
        return 1

    def halves(self, batch):
        return None

    def evaluate(self, weights, split, images=None):
        return Metrics(0.0, float(self.value(weights["w"])))


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_engine_trains_the_same_bend(library, tmp_path, weight_decay):
    bends = {}
    task = digits_task("preresnet-8x0.5")
    for allowed in ("auto", "plain"):
        kernels.allow(allowed)
        ends = [initial_weights(task.model, np.random.default_rng(seed)) for seed in (1, 2)]
        masks = magnitude_masks(ends[0], task.prunable, 0.3, "uniform")
        first, second = (task.load(apply_masks(end, masks), "an end") for end in ends)
        start = {name: value.numpy() for name, value in middle(task, first, second).items()}
        training = settings(epochs=2, batch_size=32, milestones=(), momentum=0.9, weight_decay=weight_decay)
        curve = CurveTask(task, first, second)
        [bends[allowed]] = train(curve, tmp_path / allowed, training, start=start, masks=masks)
        kernels.allow("plain")
    engine, plain = bends["auto"], bends["plain"]
    assert engine.computed_with in ("sparse", "sparse-winograd") and plain.computed_with in (None, "plain")
    for name, mask in masks.items():
        assert not engine.weights[name][~mask].any()
    for name, weights in plain.weights.items():
        np.testing.assert_allclose(engine.weights[name], weights, rtol=1e-3, atol=1e-4, err_msg=name)
    assert engine.history[-1]["train_loss"] == pytest.approx(plain.history[-1]["train_loss"], rel=1e-4)


def test_the_curve_passes_both_ends_exactly():
    first, bend, second = torch.randn(3, 5).unbind()
    assert torch.equal(on_curve(first, bend, second, 0.0), first)
    assert torch.equal(on_curve(first, bend, second, 1.0), second)
    assert torch.allclose(on_curve(first, bend, second, 0.5), first / 4 + bend / 2 + second / 4)
    # With the bend at the midpoint the curve is the straight line.
    straight = on_curve(first, (first + second) / 2, second, 0.3)
    assert torch.allclose(straight, first.lerp(second, 0.3), atol=1e-6)


def test_a_trained_bend_goes_round_the_barrier(tmp_path):
    task = Ring()
    curve = CurveTask(task, {"w": ENDS[0]}, {"w": ENDS[1]})
    start = {"w": middle(task, {"w": ENDS[0]}, {"w": ENDS[1]})["w"].numpy()}
    training = settings(epochs=20, batch_size=1, milestones=(), schedule="linear", learning_rate=0.05, weight_decay=0)
    masks = {"w": np.array([True, True, False])}
    [found] = train(curve, tmp_path / "state", training, start=start, masks=masks)
    bend = torch.from_numpy(found.weights["w"])
    assert bend[2] == 0

    def losses(at: torch.Tensor, points: int = 11) -> list[float]:
        return [float(task.value(on_curve(ENDS[0], at, ENDS[1], t))) for t in positions(points)]

    best = minimize_scalar(lambda s: np.mean(losses(torch.tensor([s, s, 0.0]), 1001)), bounds=(0.5, 2)).x
    assert bend[:2].tolist() == pytest.approx([best, best], abs=0.03)
    assert barrier(losses(torch.from_numpy(start["w"]))) == pytest.approx(-0.25)
    assert barrier(losses(bend)) > -0.03
