"""One-shot magnitude pruning with exact counts (paper, section 3.1; authors' code).

Every convolution is pruned, including the first and the shortcuts; never the classifier, biases or BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from three_regime.pruning.allocation import masks_of
from three_regime.pruning.criteria import checked
from three_regime.pruning.masks import Masks


def magnitude_masks(
    weights: Mapping[str, np.ndarray], prunable: Sequence[str], density: float, allocation: str
) -> Masks:
    """Masks that keep the weights of largest magnitude.

    Parameters
    ----------
    weights
        Name → array; must contain every name in `prunable`.
    density, allocation
        See `masks_of`.

    Raises
    ------
    UserError
        When a weight is missing or not finite, or the density or allocation is invalid.
    """
    return masks_of({name: np.abs(array) for name, array in checked(weights, prunable).items()}, density, allocation)
