"""Criteria: by which score the weights to keep are chosen. NumPy only.

``magnitude`` is the paper's. The others are controls: ``random`` (are these weights special at all?), ``lamp`` and
``gradient_magnitude`` (is it magnitude that is special?). A new criterion is one entry of ``CRITERIA``.
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
    """What a criterion may look at.

    Attributes
    ----------
    weights
        Name → array of each prunable weight.
    streams
        For what is drawn.
    gradients
        Name → gradient of the training loss at these weights; None unless the criterion asks for it.
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
        Function of `Known` → name → scores in the shape of each weight; the higher are kept.
    allocations
        Those that make sense with it.
    draws
        Whether it draws random numbers: its streams are then in the fingerprint.
    needs_gradients
        Whether the network and the training data are needed, and with them torch.
    version
        Raised by hand when its scores change.
    """

    name: str
    score: Callable[[Known], dict[str, np.ndarray]]
    description: str
    allocations: tuple[str, ...] = ALLOCATIONS
    draws: bool = False
    needs_gradients: bool = False
    version: int = 1


def checked(weights: Mapping[str, np.ndarray], prunable: Sequence[str]) -> dict[str, np.ndarray]:
    """The prunable ones of `weights`.

    Raises
    ------
    UserError
        When one is missing or not finite.
    """
    missing = [name for name in prunable if name not in weights]
    if missing:
        raise UserError(f"the checkpoint lacks {', '.join(missing[:3])}: it is of another architecture")
    for name in prunable:
        if not np.isfinite(weights[name]).all():
            raise UserError(f"{name} holds values that are not finite: a diverged network cannot be pruned")
    return {name: weights[name] for name in prunable}


def magnitude(known: Known) -> dict[str, np.ndarray]:
    """Absolute values (paper, section 3.1; A)."""
    return {name: np.abs(array) for name, array in known.weights.items()}


def random(known: Known) -> dict[str, np.ndarray]:
    """Uniform random numbers: a stream for each layer, so that masks of all densities are nested.

    The stream knows neither temperature nor weights: networks of one dense seed lose the same weights.
    """
    return {name: known.streams.generator("random", name).random(array.shape) for name, array in known.weights.items()}


def lamp(known: Known) -> dict[str, np.ndarray]:
    """Layer-adaptive magnitudes: w² over the sum of the squares that are not smaller (Lee et al., ICLR 2021, eq. 1).

    Within a layer they are ordered as magnitudes; between layers they are comparable, the largest of each is 1. The
    logarithm is returned, which is ordered alike and does not underflow.
    """
    return {name: _lamp(array) for name, array in known.weights.items()}


def _lamp(weights: np.ndarray) -> np.ndarray:
    squares = np.square(weights.astype(np.float64)).ravel()
    order = np.argsort(np.abs(weights).ravel(), kind="stable")
    rest = np.cumsum(squares[order][::-1])[::-1]  # of itself and all that come after it
    scores = np.empty_like(squares)
    with np.errstate(divide="ignore"):
        logarithms = np.log(squares[order]) - np.log(np.where(rest > 0, rest, 1.0))
    # Rounding must not reorder a layer: equal magnitudes aside, the scores rise with them.
    scores[order] = np.maximum.accumulate(logarithms)
    return scores.reshape(weights.shape)


def gradient_magnitude(known: Known) -> dict[str, np.ndarray]:
    """Absolute value of weight times gradient (Blalock et al., MLSys 2020, section 7.2)."""
    gradients = known.gradients
    if gradients is None:
        raise UserError("criterion gradient_magnitude needs gradients: it prunes in a study, not single files")
    found = {name: np.abs(array * gradients[name]) for name, array in known.weights.items()}
    for name, scores in found.items():
        if not np.isfinite(scores).all():
            raise UserError(f"the gradient of {name} holds values that are not finite")
    return found


CRITERIA: dict[str, Criterion] = {
    criterion.name: criterion
    for criterion in (
        Criterion("magnitude", magnitude, "the largest weights are kept (paper; A)"),
        Criterion("random", random, "weights are kept at random (control)", draws=True),
        Criterion(
            "gradient_magnitude",
            gradient_magnitude,
            "the largest products of weight and gradient are kept (Blalock et al. 2020)",
            draws=True,
            needs_gradients=True,
        ),
        Criterion(
            "lamp", lamp, "layer-adaptive magnitudes (Lee et al. 2021), ranked over all layers", allocations=("global",)
        ),
    )
}


def register(criterion: Criterion) -> None:
    """Add a criterion of a plugin's. See `registries.add`."""
    registries.add(CRITERIA, criterion, "criterion")


def densities(density: float, rounds: int) -> list[float]:
    """Density after each of `rounds`: the same fraction of what is left goes in each, and the last is `density`."""
    return [density ** (number / rounds) for number in range(1, rounds)] + [density]
