"""One-shot magnitude pruning with exact counts (paper, section 3.1; authors' code).

Every convolution is pruned, including the first and the shortcuts; never the classifier, biases or BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from three_regime.pruning.allocation import masks_of
from three_regime.pruning.criteria import CRITERIA, Known, checked
from three_regime.pruning.masks import Masks
from three_regime.random_streams import Streams


def magnitude_masks(
    weights: Mapping[str, np.ndarray], prunable: Sequence[str], density: float, allocation: str
) -> Masks:
    """Masks that keep the weights of largest magnitude, by the criterion ``magnitude`` of studies.

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
    known = Known(checked(weights, prunable), Streams(()))  # no random numbers are drawn
    return masks_of(CRITERIA["magnitude"].score(known), density, allocation)
