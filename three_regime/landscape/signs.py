"""Signs of the kept weights of two networks.

Directly before BatchNorm a filter that keeps one weight contributes only the sign of this weight. If two replicas
differ in it, the weight is 0 somewhere on the line between them, and the error can jump there: a barrier made by a
single weight. In a residual network that holds for filters that are normalised next, not for those added to a
shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from three_regime.landscape.networks import Networks
from three_regime.pruning.masks import Masks


def signs(first: Mapping[str, Tensor], second: Mapping[str, Tensor], masks: Masks) -> dict[str, float]:
    """Compare the signs of two networks' weights where `masks` keep them; a weight of 0 has none.

    Returns
    -------
    ``sign_disagreement``: fraction of the kept weights with opposite signs (0 if none is kept); ``sign_flips``: number
    of filters (rows of a matrix) that keep exactly one weight, with opposite signs.
    """
    kept = opposite = flips = 0
    for name, mask in masks.items():
        keeps = torch.from_numpy(mask).flatten(1)
        one, other = (weights[name].sign().flatten(1).cpu() for weights in (first, second))
        differ = (one * other < 0) & keeps
        kept += int(keeps.sum())
        opposite += int(differ.sum())
        flips += int(differ[keeps.sum(1) == 1].sum())
    return {"sign_disagreement": opposite / kept if kept else 0.0, "sign_flips": flips}


def sign_change_of(networks: Networks) -> dict[str, float]:
    """Fraction of a replica's kept weights with another sign than in the pruned network, over all prunable weights.

    Replicas that keep the signs of a common start agree in them. With ``start: reinitialised`` retraining has another
    start, and about half of the weights differ.
    """
    assert networks.pruned is not None, "sign_change is registered with `pruned`"
    return {"sign_change": signs(networks.pruned, networks.weights[0], networks.masks)["sign_disagreement"]}


def signs_of(networks: Networks) -> dict[str, float]:
    """`signs` of a pair of replicas, over all prunable weights."""
    return signs(*networks.weights, networks.masks)
