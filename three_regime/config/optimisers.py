"""Registry of optimisers: their settings and state vectors.

The update rules are in `three_regime.training.optimisers`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimiserFacts:
    """Properties of an optimiser.

    Attributes
    ----------
    settings
        Keys of `Training` that it uses in addition to those shared by all optimisers.
    slots
        Names of its state vectors, each as long as the parameters.
    """

    settings: tuple[str, ...]
    slots: tuple[str, ...]


OPTIMISERS: dict[str, OptimiserFacts] = {
    "sgd": OptimiserFacts(settings=("momentum",), slots=("momentum",)),
    "adam": OptimiserFacts(settings=("betas", "epsilon"), slots=("first", "second")),
}
"""Name in the configuration → properties. A new optimiser needs an entry here and an update rule in ``UPDATES``."""
