"""Colours under a simulation of colour blindness: maps keep their order, lines stay apart."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from three_regime.figures import style

# On linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color
# Vision Deficiency", IEEE TVCG 15 (2009) 1291-1298, severity 1.0; the last is luminance alone (Rec. 709).
SEEN = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "no colour": [[0.2126, 0.7152, 0.0722]] * 3,
}

XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(rgb, seen: str | None = None) -> np.ndarray:
    """CIELAB (D65) of sRGB colours of shape (n, 3), as somebody with that vision sees them."""
    rgb = np.asarray(rgb, dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if seen:
        linear = np.clip(linear @ np.array(SEEN[seen]).T, 0, 1)
    x, y, z = np.cbrt(np.maximum(linear @ XYZ.T / XYZ.sum(axis=1), 1e-6)).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_the_simulation_confuses_what_it_should():
    red_and_green = np.array([[0.75, 0.2, 0.1], [0.38, 0.45, 0.1]])
    apart = {seen: np.linalg.norm(np.subtract(*lab(red_and_green, seen))) for seen in (None, "deuteranopia")}
    assert apart[None] > 60 > 30 > apart["deuteranopia"]
    np.testing.assert_allclose(lab([[1, 1, 1], [0.5, 0.5, 0.5]], "tritanopia")[:, 1:], 0, atol=0.5)


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("light_is_low", [True, False])
def test_maps_keep_their_order(seen, light_is_low):
    lightness = lab(style.sequential(light_is_low=light_is_low)(np.linspace(0, 1, 64))[:, :3], seen)[:, 0]
    steps = np.diff(lightness[::-1] if light_is_low else lightness)
    assert (steps > 0).all(), "lightness is monotone, so that no two values look alike"
    assert abs(lightness[0] - lightness[-1]) > 70


@pytest.mark.parametrize("seen", [None, "protanopia", "deuteranopia", "tritanopia"])
def test_lines_stay_apart(seen):
    found = lab([to_rgb(look.colour) for look in style.SERIES], seen)
    for (i, one), (j, other) in itertools.combinations(enumerate(found), 2):
        assert np.linalg.norm(one - other) > 9, f"{style.SERIES[i].colour} and {style.SERIES[j].colour}"
    first = found[:4]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(first, 2)) > 15


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("count", [2, 4])
def test_ordered_families_stay_apart(seen, count):
    lightness = lab([shade[:3] for shade in style.shades(count)], seen)[:, 0]
    assert (np.diff(lightness) > 8).all()
