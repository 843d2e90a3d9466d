"""The loss on the plane through three replicas: is there a valley around the straight lines between them?

Garipov et al. (NeurIPS 2018), figure 1, draw such planes. The networks are w₁ + a (w₂ − w₁) + b (w₃ − w₁) on a
triangular grid of (a, b), whose edges are the lines of LMC. Errors are measured as on the line, with BatchNorm
re-estimated at every point (`mode_connectivity`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from three_regime.landscape import mode_connectivity
from three_regime.landscape.networks import Networks
from three_regime.landscape.weight_distance import distance
from three_regime.tasks.interface import Task

Weights = Mapping[str, Tensor]
Place = tuple[int, int]
"""Steps from the first replica towards the second and the third."""


def grid(points: int, margin: int) -> list[Place]:
    """Places with `points` on each edge of the triangle, and `margin` steps around it."""
    last = points - 1
    steps = range(-margin, last + 2 * margin + 1)
    return [(i, j) for j in steps for i in steps if i + j <= last + margin]


def network(task: Task, corners: Sequence[Weights], place: Place, points: int) -> dict[str, Tensor]:
    """Network at a place; on the edges bit for bit that of the line between two replicas (`between`)."""
    first, second, third = corners
    (i, j), last = place, points - 1
    if j == last and i == 0:
        return {**first, **{name: third[name] for name in task.parameters}}
    if min(i, j, last - i - j) >= 0:
        along = mode_connectivity.between(task, first, second, i / (last - j))
        return mode_connectivity.between(task, along, third, j / last)
    a, b = i / last, j / last
    return {
        name: (1 - a - b) * value + a * second[name] + b * third[name] if name in task.parameters else value
        for name, value in first.items()
    }


def coordinates(corners: Sequence[Weights], names: Sequence[str]) -> list[tuple[float, float]]:
    """Euclidean coordinates of the three replicas in their plane: the first at (0, 0), the second at (x, 0).

    Distances are over the parameters `names`.
    """
    first, second, third = corners
    base, left, right = (
        distance(one, other, names)["distance"] for one, other in ((first, second), (first, third), (second, third))
    )
    along = (left**2 + base**2 - right**2) / (2 * base) if base > 0 else 0.0
    return [(0.0, 0.0), (base, 0.0), (along, math.sqrt(max(left**2 - along**2, 0.0)))]


def depth(values: Sequence[float], places: Sequence[Place], points: int) -> float:
    """Mean of the corners minus the value at the centroid: negative if the middle of the triangle is a barrier.

    Parameters
    ----------
    values
        Errors (fractions) or losses at `places`.
    points
        Points on each edge; one more than a multiple of 3, so that the centroid is a place.
    """
    at, last = dict(zip(places, values, strict=True)), points - 1
    return (at[0, 0] + at[last, 0] + at[0, last]) / 3 - at[last // 3, last // 3]


def plane_of(networks: Networks) -> dict[str, Any]:
    """Measure the networks on the plane through the first three replicas.

    Returns
    -------
    `depth` as ``plane`` (training error), ``plane_nll`` and ``plane_test``, and lists over the points: ``a``, ``b``,
    ``x``, ``y`` (Euclidean, see `coordinates`), ``train_error``, ``train_nll``, ``test_error``, ``test_nll``.
    """
    task, measure = networks.task, networks.config.measure
    points, corners = measure.plane.points, networks.weights
    places = grid(points, measure.plane.margin)
    path = list(
        mode_connectivity.measure(
            networks.stack,
            (network(task, corners, place, points) for place in places),
            measure.batch_size,
            measure.train_images,
        )
    )
    train_error, train_nll = [each.train.error for each in path], [each.train.nll for each in path]
    test_error, test_nll = [each.test.error for each in path], [each.test.nll for each in path]
    _, (base, _), (along, height) = coordinates(corners, tuple(task.parameters))
    shares = [(i / (points - 1), j / (points - 1)) for i, j in places]
    return {
        "plane": depth(train_error, places, points),
        "plane_nll": depth(train_nll, places, points),
        "plane_test": depth(test_error, places, points),
        "a": [a for a, _ in shares],
        "b": [b for _, b in shares],
        "x": [a * base + b * along for a, b in shares],
        "y": [b * height for _, b in shares],
        "train_error": train_error,
        "train_nll": train_nll,
        "test_error": test_error,
        "test_nll": test_nll,
    }
