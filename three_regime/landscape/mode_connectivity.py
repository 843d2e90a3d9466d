"""Linear mode connectivity: the barrier on the straight line between two replicas (paper, section 3.1).

Protocol of the authors' code: at every point, the ends too, all parameters are interpolated, the BatchNorm
statistics are re-estimated on un-augmented training data, and the network is then evaluated. Always fp32.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from three_regime.tasks.interface import Metrics, Stack, Task
from three_regime.tasks.strategies import stacked

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Point:
    """Training and test metrics at one place on the line, after re-estimation."""

    train: Metrics
    test: Metrics


def barrier(values: Sequence[float]) -> float:
    """Mean of the ends minus the value at the first point of largest absolute deviation from it (A).

    Parameters
    ----------
    values
        Errors (fractions) or losses at evenly spaced points, the ends included.

    Returns
    -------
    LMC: negative where a barrier separates the ends, about 0 where they are connected.
    """
    # 1. The level that the ends set together.
    level = (values[0] + values[-1]) / 2
    # 2. How far each point lies below it: negative where the error is higher, on a barrier.
    deviations = [level - value for value in values]
    # 3. The largest in size, with its sign; `max` takes the first of equals.
    return max(deviations, key=abs)


def positions(points: int) -> list[float]:
    """`points` evenly spaced positions from 0 to 1."""
    return [index / (points - 1) for index in range(points)]


def between(task: Task, first: Mapping[str, Tensor], second: Mapping[str, Tensor], t: float) -> dict[str, Tensor]:
    """Parameters at position `t`; ``lerp`` is exact at both ends. Statistics are the first network's."""
    return {name: value.lerp(second[name], t) if name in task.parameters else value for name, value in first.items()}


def measure(
    stack: Stack, networks: Iterable[Mapping[str, Tensor]], batch_size: int, images: int | None
) -> Iterator[Point]:
    """Re-estimate the statistics of each network on the first `images` training images (None: all), then evaluate it.

    As many networks as the stack takes are computed together.
    """
    waiting = iter(networks)
    while chunk := list(itertools.islice(waiting, stack.width)):
        # Interpolated weights do not go with either end's BatchNorm statistics, so these are made anew at every point,
        # the ends too: otherwise the line would be compared with ends of another kind.
        weights = stack.reestimate(stacked(chunk, stack.rows(len(chunk))), batch_size, images)
        train, test = stack.evaluate(weights, "train", images), stack.evaluate(weights, "test")
        for row in range(len(chunk)):
            yield Point(train[row], test[row])


def inside(
    task: Task, first: Mapping[str, Tensor], second: Mapping[str, Tensor], points: int
) -> Iterator[dict[str, Tensor]]:
    """The networks between two ends, of a line of `points` points."""
    return (between(task, first, second, t) for t in positions(points)[1:-1])


def line(path: Sequence[Point]) -> dict[str, Any]:
    """LMC of a pair from the points of its line, the ends included (those are measured once a replica).

    Returns
    -------
    ``t``, ``train_error``, ``train_nll``, ``test_error``, ``test_nll`` (lists over the points; errors are fractions,
    NLL in nats), ``lmc`` (barrier of the training error), and the barriers ``lmc_nll`` (training NLL),
    ``lmc_test`` and ``lmc_test_nll``.
    """
    curves = {
        "train_error": [point.train.error for point in path],
        "train_nll": [point.train.nll for point in path],
        "test_error": [point.test.error for point in path],
        "test_nll": [point.test.nll for point in path],
    }
    return {
        "t": positions(len(path)),
        **curves,
        "lmc": barrier(curves["train_error"]),
        "lmc_nll": barrier(curves["train_nll"]),
        "lmc_test": barrier(curves["test_error"]),
        "lmc_test_nll": barrier(curves["test_nll"]),
    }
