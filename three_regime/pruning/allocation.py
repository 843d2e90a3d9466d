"""Allocation: the number of weights that each layer keeps, and masks with exactly these counts. NumPy only.

``uniform``: every layer keeps the same fraction (authors' code). ``global``: scores of all layers are ranked together.
``erk``: the Erdős-Rényi-kernel densities of Evci et al., "Rigging the Lottery" (ICML 2020), section 3; layers with few
weights relative to their fan-in, fan-out and kernel size keep a larger fraction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from three_regime.errors import UserError
from three_regime.pruning.masks import Masks

ALLOCATIONS = ("uniform", "global", "erk")


def removed_count(size: int, density: float) -> int:
    """Number of weights removed from `size` weights: round((1 − density) · size), half to even (authors' code)."""
    return round((1 - density) * size)


def kept_counts(shapes: Mapping[str, tuple[int, ...]], density: float, allocation: str) -> dict[str, int] | None:
    """Number of weights that each layer keeps; None if it depends on the scores (``global``).

    `removed_count` weights are removed from each layer (``uniform``) or in total (``erk``).

    Parameters
    ----------
    shapes
        Layer → shape of its weight: outputs, inputs, then the kernel.
    density
        Fraction kept, in (0, 1].

    Raises
    ------
    UserError
        When the allocation is unknown.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if allocation == "global":
        return None
    if allocation == "uniform":
        return {name: size - removed_count(size, density) for name, size in sizes.items()}
    if allocation == "erk":
        total = sum(sizes.values())
        shares = {name: sizes[name] * part for name, part in erk_densities(shapes, density).items()}
        return _whole(shares, sizes, total - removed_count(total, density))
    raise UserError(f"unknown allocation '{allocation}'; allowed: {', '.join(sorted(ALLOCATIONS))}")


def erk_densities(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Density of each layer: ε · (sum of the weight's dimensions) / (their product), at most 1 (Evci et al. 2020).

    ε is chosen so that the fraction `density` of all weights is kept; layers that would exceed 1 stay dense, and the
    others share the remainder.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    wanted, dense = density * sum(sizes.values()), set()
    while True:
        free = [name for name in shapes if name not in dense]
        left = wanted - sum(sizes[name] for name in dense)
        scale = left / sum(raw[name] * sizes[name] for name in free) if free else 0.0
        over = {name for name in free if scale * raw[name] > 1}
        if not over:
            return {name: 1.0 if name in dense else scale * raw[name] for name in shapes}
        dense |= over


def _whole(shares: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Round `shares` to integers that sum to `total`, by the largest remainders."""
    counts = {name: min(math.floor(share + 1e-9), sizes[name]) for name, share in shares.items()}
    waiting = sorted(shares, key=lambda name: counts[name] - shares[name])  # stable: ties stay in file order
    while (missing := total - sum(counts.values())) > 0:
        free = [name for name in waiting if counts[name] < sizes[name]]
        for name in free[:missing]:
            counts[name] += 1
    for name in waiting[::-1][: max(0, -missing)]:
        counts[name] -= 1
    return counts


def masks_of(scores: Mapping[str, np.ndarray], density: float, allocation: str) -> Masks:
    """Masks that keep the weights of largest score.

    Parameters
    ----------
    scores
        Layer → scores, in the shape of its weight.
    density
        Fraction kept, in (0, 1].
    allocation
        One of ``ALLOCATIONS``.

    Returns
    -------
    Name → bool array of the weight's shape, True where the weight is kept. Each layer keeps exactly `kept_counts`; with
    ``global`` exactly `removed_count` weights are removed in total. Ties are removed in file order, so for fixed scores
    masks of decreasing density are nested (``uniform``, ``global``).

    Raises
    ------
    UserError
        When the density or allocation is invalid, or a score is not a number (it would count as the largest).
    """
    if not 0 < density <= 1:
        raise UserError(f"density must lie in (0, 1], not {density}")
    for name, array in scores.items():
        if np.isnan(array).any():
            raise UserError(f"the pruning criterion gives {name} a score that is not a number")
    counts = kept_counts({name: array.shape for name, array in scores.items()}, density, allocation)
    # Uniform, ERK: rank the scores within each layer.
    if counts is not None:
        return {name: _keep_largest(array.ravel(), counts[name]).reshape(array.shape)
                for name, array in scores.items()}  # fmt: skip
    # Global: rank the scores of all layers together, so layers with low scores lose more.
    together = np.concatenate([array.ravel() for array in scores.values()])
    kept = _keep_largest(together, together.size - removed_count(together.size, density))
    parts = np.split(kept, np.cumsum([array.size for array in scores.values()])[:-1])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def _keep_largest(scores: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(scores, kind="stable")  # stable: ties stay in file order, so masks are nested
    kept = np.ones(scores.size, dtype=bool)
    kept[order[: scores.size - count]] = False
    return kept
