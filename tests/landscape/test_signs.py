"""Opposite signs of kept weights, counted by hand, and the jump that they make on a line."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from three_regime.landscape.signs import signs


def test_signs_by_hand():
    # Rows: one weight that flips; one that does not; two that flip; one that is 0 in a network; none.
    first = {"a": torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, -1.0], [0.0, 0.0], [0.0, 0.0]]), "bias": torch.ones(5)}
    second = {"a": torch.tensor([[-1.0, 0.0], [3.0, 0.0], [-1.0, 1.0], [4.0, 0.0], [0.0, 0.0]]), "bias": -torch.ones(5)}
    masks = {"a": np.array([[1, 0], [1, 0], [1, 1], [1, 0], [0, 0]], dtype=bool)}
    assert signs(first, second, masks) == {"sign_disagreement": 3 / 5, "sign_flips": 1}
    assert signs(second, first, masks) == signs(first, second, masks)
    assert signs(first, first, masks) == {"sign_disagreement": 0.0, "sign_flips": 0}


def test_a_filter_of_a_convolution_is_a_row():
    first = {"conv": torch.zeros(3, 2, 3, 3)}
    first["conv"][0, 1, 2, 2], first["conv"][1, 0, 0, 0], first["conv"][1, 1, 0, 0] = 1e-30, 1, 1
    second = {"conv": -first["conv"]}
    masks = {"conv": first["conv"].numpy() != 0}
    assert signs(first, second, masks) == {"sign_disagreement": 1.0, "sign_flips": 1}  # 1e-60 would underflow


def test_nothing_kept():
    empty = {"a": torch.zeros(2, 2)}
    assert signs(empty, empty, {"a": np.zeros((2, 2), dtype=bool)}) == {"sign_disagreement": 0.0, "sign_flips": 0}


def test_a_filter_of_one_weight_jumps_where_it_is_0():
    """Why they are counted: at equal distances before and after the zero the channel is opposite, not nearly equal."""
    images = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    norm = nn.BatchNorm2d(1, eps=1e-12)
    before, after = (norm(weight * images) for weight in (0.01, -0.01))
    assert torch.allclose(before, -after) and before.abs().mean() > 0.5
