"""One-shot magnitude pruning (paper, section 3.1; authors' code): NumPy only, exact counts.

Every convolution is pruned, first and shortcuts included; never the classifier, biases or BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from three_regime.errors import UserError
from three_regime.pruning.masks import Masks


def removed_count(size: int, density: float) -> int:
    """Weights that a group of `size` loses at `density`: round((1 − density) · size), halves to even (A)."""
    return round((1 - density) * size)


def magnitude_masks(
    weights: Mapping[str, np.ndarray], prunable: Sequence[str], density: float, allocation: str
) -> Masks:
    """Masks that keep the largest magnitudes.

    Parameters
    ----------
    weights
        Name → array; those in `prunable` are looked at.
    density
        Fraction kept, in (0, 1].
    allocation
        ``uniform``: every layer keeps the same fraction; ``global``: one ranking over all layers.

    Returns
    -------
    Name → bool array of the weight's shape, True where the weight is kept. Exactly `removed_count` weights are
    removed, from each layer or in all; among equal magnitudes the earlier go first, so masks of decreasing
    density are nested.

    Raises
    ------
    UserError
        When the density is out of range or a weight is missing or not finite.
    """
    if not 0 < density <= 1:
        raise UserError(f"density must lie in (0, 1], not {density}")
    missing = [name for name in prunable if name not in weights]
    if missing:
        raise UserError(f"the checkpoint lacks {', '.join(missing[:3])}: it is of another architecture")
    for name in prunable:
        if not np.isfinite(weights[name]).all():
            raise UserError(f"{name} holds values that are not finite: a diverged network cannot be pruned")
    # Uniform: a ranking in every layer, so that all keep the same fraction.
    if allocation == "uniform":
        return {name: _keep_largest(np.abs(weights[name]).ravel(), density).reshape(weights[name].shape)
                for name in prunable}  # fmt: skip
    # Global: one ranking over all layers; layers of small weights lose more.
    if allocation == "global":
        kept = _keep_largest(np.concatenate([np.abs(weights[name]).ravel() for name in prunable]), density)
        ends = np.cumsum([weights[name].size for name in prunable])[:-1]
        parts = np.split(kept, ends)
        return {name: part.reshape(weights[name].shape) for name, part in zip(prunable, parts, strict=True)}
    raise UserError(f"unknown allocation '{allocation}'; allowed: global, uniform")


def _keep_largest(magnitudes: np.ndarray, density: float) -> np.ndarray:
    order = np.argsort(magnitudes, kind="stable")  # stable: equal magnitudes go in file order, so masks are nested
    kept = np.ones(magnitudes.size, dtype=bool)
    kept[order[: removed_count(magnitudes.size, density)]] = False
    return kept
