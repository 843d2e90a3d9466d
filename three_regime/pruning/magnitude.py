"""One-shot magnitude pruning (paper, section 3.1; authors' code): NumPy only, exact counts.

Every convolution is pruned, first and shortcuts included; never the classifier, biases or BatchNorm.
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
    """Masks that keep the largest magnitudes.

    Parameters
    ----------
    weights
        Name → array; those in `prunable` are looked at.
    density, allocation
        As for `masks_of`.

    Raises
    ------
    UserError
        When a weight is missing or not finite, and as `masks_of`.
    """
    return masks_of({name: np.abs(array) for name, array in checked(weights, prunable).items()}, density, allocation)
