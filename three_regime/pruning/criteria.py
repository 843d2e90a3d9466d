"""Criteria: the scores that select the weights to keep. NumPy only.

``magnitude`` is the paper's criterion. The others are controls: ``random`` tests whether the choice of weights matters,
``lamp`` and ``gradient_magnitude`` whether magnitude does. A new criterion is an entry of ``CRITERIA``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from three_regime.errors import UserError
from three_regime.pruning.allocation import ALLOCATIONS
from three_regime.random_streams import Streams
from three_regime.system import registries

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Known:
    """Input of a criterion.

    Attributes
    ----------
    weights
        Name → array of each prunable weight.
    streams
        Source of random numbers.
    gradients
        Name → gradient of the training loss with respect to these weights; None unless the criterion needs it.
    """

    weights: Arrays
    streams: Streams
    gradients: Arrays | None = None


@dataclass(frozen=True)
class Criterion:
    """One way to score weights.

    Attributes
    ----------
    score
        Function of `Known` → name → scores, in the shape of each weight; weights of high score are kept.
    allocations
        Allocations that it supports.
    draws
        Whether it uses random numbers; its streams are then part of the fingerprint.
    needs_gradients
        Whether it needs gradients, and with them torch, the network and the training data.
    version
        Increased by hand when the code changes the scores.
    """

    name: str
    score: Callable[[Known], dict[str, np.ndarray]]
    description: str
    allocations: tuple[str, ...] = ALLOCATIONS
    draws: bool = False
    needs_gradients: bool = False
    version: int = 1

    def check(self, allocation: str) -> None:
        """Raise ``ValueError`` if the criterion does not support `allocation`."""
        if allocation not in self.allocations:
            supported = ", ".join(self.allocations)
            raise ValueError(f"criterion {self.name} does not support allocation {allocation}; use {supported}")


def checked(weights: Mapping[str, np.ndarray], prunable: Sequence[str]) -> dict[str, np.ndarray]:
    """The weights in `prunable`.

    Raises
    ------
    UserError
        When a weight is missing or not finite.
    """
    missing = [name for name in prunable if name not in weights]
    if missing:
        raise UserError(f"the checkpoint lacks {', '.join(missing[:3])}: it is of another architecture")
    for name in prunable:
        if not np.isfinite(weights[name]).all():
            raise UserError(f"{name} holds values that are not finite: a diverged network cannot be pruned")
    return {name: weights[name] for name in prunable}


def magnitude(known: Known) -> dict[str, np.ndarray]:
    """Absolute values (paper, section 3.1; authors' code)."""
    return {name: np.abs(array) for name, array in known.weights.items()}


def random(known: Known) -> dict[str, np.ndarray]:
    """Uniform random numbers, each layer with its own stream, so masks of decreasing density are nested.

    The streams depend only on the dense seed, so its networks lose the same weights at every temperature.
    """
    return {name: known.streams.generator("random", name).random(array.shape) for name, array in known.weights.items()}


def lamp(known: Known) -> dict[str, np.ndarray]:
    """Logarithm of the layer-adaptive magnitude (Lee et al., ICLR 2021, eq. 1).

    That is w² divided by the sum of all squares in the layer that are not smaller. It orders weights within a layer by
    magnitude and makes layers comparable: the largest score in each is 1. The logarithm has the same order and does not
    underflow.
    """
    return {name: _lamp(array) for name, array in known.weights.items()}


def _lamp(weights: np.ndarray) -> np.ndarray:
    squares = np.square(weights.astype(np.float64)).ravel()
    order = np.argsort(np.abs(weights).ravel(), kind="stable")
    rest = np.cumsum(squares[order][::-1])[::-1]  # sum of each square and the larger ones
    scores = np.empty_like(squares)
    with np.errstate(divide="ignore"):
        logarithms = np.log(squares[order]) - np.log(np.where(rest > 0, rest, 1.0))
    # Rounding must not reorder the weights of a layer.
    scores[order] = np.maximum.accumulate(logarithms)
    return scores.reshape(weights.shape)


def gradient_magnitude(known: Known) -> dict[str, np.ndarray]:
    """Absolute value of the product of weight and gradient (Blalock et al., MLSys 2020, section 7.2)."""
    gradients = known.gradients
    if gradients is None:
        raise UserError("criterion gradient_magnitude needs gradients, which are computed only in studies")
    found = {name: np.abs(array * gradients[name]) for name, array in known.weights.items()}
    for name, scores in found.items():
        if not np.isfinite(scores).all():
            raise UserError(f"the gradient of {name} holds values that are not finite")
    return found


CRITERIA: dict[str, Criterion] = {
    criterion.name: criterion
    for criterion in (
        Criterion("magnitude", magnitude, "keeps the weights of largest magnitude (paper)"),
        Criterion("random", random, "keeps random weights (control)", draws=True),
        Criterion(
            "gradient_magnitude",
            gradient_magnitude,
            "keeps the weights with the largest product of weight and gradient (Blalock et al. 2020)",
            draws=True,
            needs_gradients=True,
        ),
        Criterion(
            "lamp",
            lamp,
            "keeps the largest layer-adaptive magnitudes (Lee et al. 2021), ranked over all layers",
            allocations=("global",),
        ),
    )
}


def register(criterion: Criterion) -> None:
    """Register a criterion, for plugins. See `registries.add`."""
    registries.add(CRITERIA, criterion, "criterion")


def densities(density: float, rounds: int) -> list[float]:
    """Density after each of `rounds`, which remove equal fractions of the remaining weights; the last is `density`."""
    return [density ** (number / rounds) for number in range(1, rounds)] + [density]
