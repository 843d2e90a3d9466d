"""Euclidean distance between the trained parameters of two networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from three_regime.landscape.networks import Networks


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, float]:
    """Distance over the parameters in `names`, in float64.

    Returns
    -------
    ``distance``, and ``distance_relative``: divided by the mean of the two norms (√2 if orthogonal and of equal norm).
    """
    one, other = (torch.cat([weights[name].double().flatten() for name in names]) for weights in (first, second))
    apart, scale = (one - other).norm(), (one.norm() + other.norm()) / 2
    return {"distance": float(apart), "distance_relative": float(apart / scale) if scale > 0 else 0.0}


def distance_of(networks: Networks) -> dict[str, float]:
    """`distance` of a pair of replicas, over all trained parameters."""
    return distance(*networks.weights, tuple(networks.task.parameters))
