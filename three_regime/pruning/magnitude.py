"""One-shot magnitude pruning with exact counts (paper, section 3.1; authors' code).

Every convolution is pruned, including the first and the shortcuts; never the classifier, biases or BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from three_regime.errors import UserError
from three_regime.pruning.masks import Masks


def removed_count(size: int, density: float) -> int:
    """Number of weights removed from `size` weights: round((1 − density) · size), half to even (authors' code)."""
    return round((1 - density) * size)


def magnitude_masks(
    weights: Mapping[str, np.ndarray], prunable: Sequence[str], density: float, allocation: str
) -> Masks:
    """Masks that keep the weights of largest magnitude.

    Parameters
    ----------
    weights
        Name → array; must contain every name in `prunable`.
    density
        Fraction kept, in (0, 1].
    allocation
        ``uniform``: every layer keeps the same fraction; ``global``: weights of all layers are ranked together.

    Returns
    -------
    Name → bool array of the weight's shape, True where the weight is kept. Exactly `removed_count` weights are removed,
    from each layer or in total. Ties are removed in file order, so masks of decreasing density are nested.

    Raises
    ------
    UserError
        When the density or allocation is invalid, or a weight is missing or not finite.
    """
    if not 0 < density <= 1:
        raise UserError(f"density must lie in (0, 1], not {density}")
    missing = [name for name in prunable if name not in weights]
    if missing:
        raise UserError(f"the checkpoint lacks {', '.join(missing[:3])}: it is of another architecture")
    for name in prunable:
        if not np.isfinite(weights[name]).all():
            raise UserError(f"{name} holds values that are not finite: a diverged network cannot be pruned")
    # Uniform: rank the weights within each layer, so all layers keep the same fraction.
    if allocation == "uniform":
        return {name: _keep_largest(np.abs(weights[name]).ravel(), density).reshape(weights[name].shape)
                for name in prunable}  # fmt: skip
    # Global: rank the weights of all layers together, so layers with small weights lose more.
    if allocation == "global":
        kept = _keep_largest(np.concatenate([np.abs(weights[name]).ravel() for name in prunable]), density)
        ends = np.cumsum([weights[name].size for name in prunable])[:-1]
        parts = np.split(kept, ends)
        return {name: part.reshape(weights[name].shape) for name, part in zip(prunable, parts, strict=True)}
    raise UserError(f"unknown allocation '{allocation}'; allowed: global, uniform")


def _keep_largest(magnitudes: np.ndarray, density: float) -> np.ndarray:
    order = np.argsort(magnitudes, kind="stable")  # stable: ties stay in file order, so masks are nested
    kept = np.ones(magnitudes.size, dtype=bool)
    kept[order[: removed_count(magnitudes.size, density)]] = False
    return kept
