"""Agreement and divergence of predictions and distance of weights, in cases with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

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


def test_distance_of_weights():
    first = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[0.0]]), "running_mean": torch.tensor([9.0])}
    second = {"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([[0.0]]), "running_mean": torch.tensor([0.0])}
    assert distance(first, second, ("a", "b")) == {"distance": 5.0, "distance_relative": 5 / 3.5}
    assert distance(first, first, ("a", "b")) == {"distance": 0.0, "distance_relative": 0.0}
