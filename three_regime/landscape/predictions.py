"""Agreement and divergence of two networks' predictions: similarity as CKA, without its invariances."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import jensenshannon

from three_regime.landscape.networks import Networks


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Fraction of inputs on which the largest outputs are in the same place.

    Parameters
    ----------
    first, second
        Logits or probabilities on the same n inputs, (n, classes) each.

    Returns
    -------
    A number in [0, 1]: 1 for networks that predict alike.
    """
    return float((first.argmax(1) == second.argmax(1)).mean())


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence of two networks' class probabilities (Lin 1991).

    Parameters
    ----------
    first, second
        Probabilities on the same n inputs, (n, classes) each; rows sum to 1.

    Returns
    -------
    Nats, in [0, ln 2]: 0 for equal probabilities, ln 2 where no class has any of both.
    """
    return float(np.mean(np.square(jensenshannon(first, second, axis=1))))


def agreement_of(networks: Networks) -> dict[str, float]:
    """`agreement` of a pair of replicas."""
    return {"agreement": agreement(*(networks.outputs(place)["softmax"] for place in (0, 1)))}


def divergence_of(networks: Networks) -> dict[str, float]:
    """`divergence` of a pair of replicas."""
    return {"divergence": divergence(*(networks.outputs(place)["softmax"] for place in (0, 1)))}
