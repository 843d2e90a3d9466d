"""Agreement and divergence of the predictions of two networks: similarity without the invariances of CKA."""

from __future__ import annotations

import numpy as np
from scipy.special import rel_entr

from three_regime.landscape.networks import Networks


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Fraction of inputs for which both networks predict the same class.

    Parameters
    ----------
    first, second
        Logits or probabilities for the same n inputs, each of shape (n, classes).

    Returns
    -------
    A number in [0, 1]; 1 if all predictions are equal.
    """
    return float((first.argmax(1) == second.argmax(1)).mean())


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence between the class probabilities of two networks (Lin 1991).

    Parameters
    ----------
    first, second
        Probabilities for the same n inputs, each of shape (n, classes); rows sum to 1.

    Returns
    -------
    In nats, between 0 (equal probabilities) and ln 2 (disjoint classes).
    """
    middle = (first + second) / 2
    of_inputs = (rel_entr(first, middle) + rel_entr(second, middle)).sum(axis=1) / 2
    # Rounding can make it negative where the networks are confident and agree.
    return float(np.mean(np.maximum(of_inputs, 0)))


def agreement_of(networks: Networks) -> dict[str, float]:
    """`agreement` of a pair of replicas."""
    return {"agreement": agreement(*(networks.outputs(place)["softmax"] for place in (0, 1)))}


def divergence_of(networks: Networks) -> dict[str, float]:
    """`divergence` of a pair of replicas."""
    return {"divergence": divergence(*(networks.outputs(place)["softmax"] for place in (0, 1)))}
