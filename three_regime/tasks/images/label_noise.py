"""Label noise: a share of the training labels is wrong, a load beside density (`three_regime.config.loads`)."""

from __future__ import annotations

import numpy as np

from three_regime.random_streams import Streams


def noisy(labels: np.ndarray, share: float, classes: int) -> np.ndarray:
    """Replace a share of the labels, each by one of the other classes, uniformly.

    A larger share replaces the same labels and more, by the same classes, so that studies differ only in their load.

    Parameters
    ----------
    labels
        (N,) int64 in 0 … classes − 1.
    share
        Fraction in [0, 1) of labels to replace, rounded to a whole number of them.
    """
    generator = Streams(("label noise",)).generator(len(labels))
    order = generator.permutation(len(labels))
    shifts = generator.integers(1, classes, size=len(labels))
    wrong = order[: round(share * len(labels))]
    changed = labels.copy()
    changed[wrong] = (labels[wrong] + shifts[wrong]) % classes
    return changed
