"""Linear mode connectivity: the barrier on the straight line between two replicas (paper, section 3.1).

Protocol of the authors' code: at every point, including the ends, interpolate all parameters, re-estimate the BatchNorm
statistics on un-augmented training data, and evaluate the network. Always in fp32.
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
    """Training and test metrics at a point on the line, after BatchNorm re-estimation."""

    train: Metrics
    test: Metrics


def barrier(values: Sequence[float]) -> float:
    """The LMC formula (authors' code): mean of the ends minus the value at the first point of largest deviation.

    Parameters
    ----------
    values
        Errors (fractions) or losses at evenly spaced points, including the ends.

    Returns
    -------
    LMC: negative if a barrier separates the ends, about 0 if they are connected.
    """
    # 1. Reference level: the mean of the two ends.
    level = (values[0] + values[-1]) / 2
    # 2. Deviation of each point below this level: negative where the error is higher, i.e. on a barrier.
    deviations = [level - value for value in values]
    # 3. The largest in absolute value, with its sign; `max` returns the first of ties.
    return max(deviations, key=abs)


def positions(points: int) -> list[float]:
    """`points` evenly spaced positions from 0 to 1."""
    return [index / (points - 1) for index in range(points)]


def between(task: Task, first: Mapping[str, Tensor], second: Mapping[str, Tensor], t: float) -> dict[str, Tensor]:
    """Network at position `t`: interpolated parameters (``lerp`` is exact at both ends), buffers of `first`."""
    return {name: value.lerp(second[name], t) if name in task.parameters else value for name, value in first.items()}


def measure(
    stack: Stack, networks: Iterable[Mapping[str, Tensor]], batch_size: int, images: int | None
) -> Iterator[Point]:
    """Re-estimate BatchNorm on the first `images` training images (None: all) and evaluate, for each network.

    Networks are computed together in chunks of the stack's width.
    """
    waiting = iter(networks)
    while chunk := list(itertools.islice(waiting, stack.width)):
        # 1. Interpolated weights do not match the BatchNorm statistics of either end, so re-estimate them at every
        #    point; also at the ends, or the line would be compared with ends measured differently.
        weights = stack.reestimate(stacked(chunk, stack.rows(len(chunk))), batch_size, images)
        # 2. Evaluate on un-augmented training and test data.
        train, test = stack.evaluate(weights, "train", images), stack.evaluate(weights, "test")
        for row in range(len(chunk)):
            yield Point(train[row], test[row])


def inside(
    task: Task, first: Mapping[str, Tensor], second: Mapping[str, Tensor], points: int
) -> Iterator[dict[str, Tensor]]:
    """The inner networks of a line of `points` points."""
    return (between(task, first, second, t) for t in positions(points)[1:-1])


def line(path: Sequence[Point]) -> dict[str, Any]:
    """LMC of a pair from the points of its line, including the ends (which are measured once per replica).

    Returns
    -------
    ``t``, ``train_error``, ``train_nll``, ``test_error``, ``test_nll`` (lists over the points; errors are fractions,
    NLL in nats), ``lmc`` (of the training error), ``lmc_nll`` (training NLL), ``lmc_test`` and ``lmc_test_nll``.
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
