"""Agreement and divergence of predictions and distance of weights, in cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from three_regime.landscape.predictions import agreement, divergence
from three_regime.landscape.weight_distance import distance

FIRST = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.0, 0.0, 1.0]])


def test_agreement_counts_equal_predictions():
    second = FIRST[:, [1, 0, 2]]  # the first two rows predict another class
    assert agreement(FIRST, second) == 0.5
    assert agreement(FIRST, FIRST) == 1.0
    assert agreement(FIRST, np.log(FIRST + 1e-9)) == 1.0


def test_divergence_of_equal_and_of_disjoint_predictions():
    sure = np.eye(3)
    assert divergence(FIRST, FIRST) == pytest.approx(0, abs=1e-12)
    assert divergence(sure, sure[[1, 2, 0]]) == pytest.approx(math.log(2))


def test_divergence_by_hand_and_either_way_round():
    p, q = np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])
    middle = (p + q) / 2
    expected = ((p * np.log(p / middle)).sum() + (q * np.log(q / middle)).sum()) / 2
    assert divergence(p, q) == pytest.approx(expected) == pytest.approx(divergence(q, p))
    assert divergence(np.vstack([p, p]), np.vstack([q, p])) == pytest.approx(expected / 2)


@pytest.mark.parametrize("raised", [0, 3, 32, 36])
def test_divergence_of_confident_predictions_that_agree(raised):
    generator = np.random.default_rng(0)
    logits = np.zeros((2000, 10))
    logits[np.arange(2000), generator.integers(0, 10, 2000)] = raised
    first, second = (softmax(logits + 0.3 * generator.standard_normal(logits.shape), axis=1) for _ in range(2))
    found = divergence(first, second)
    assert found >= 0 and found == divergence(second, first)
    with np.errstate(invalid="ignore"):
        expected = np.nanmean(np.square(jensenshannon(first, second, axis=1)))  # NaN where rounding made it negative
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_distance_of_weights():
    first = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[0.0]]), "running_mean": torch.tensor([9.0])}
    second = {"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([[0.0]]), "running_mean": torch.tensor([0.0])}
    assert distance(first, second, ("a", "b")) == {"distance": 5.0, "distance_relative": 5 / 3.5}
    assert distance(first, first, ("a", "b")) == {"distance": 0.0, "distance_relative": 0.0}
