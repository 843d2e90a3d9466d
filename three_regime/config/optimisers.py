"""Optimisers: what a configuration may name, and what each is set by and remembers. No torch.

The update rules are in `three_regime.training.optimisers`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimiserFacts:
    """What is known of an optimiser without computing.

    Attributes
    ----------
    settings
        Keys of `Training` that it reads beside those that all optimisers share.
    slots
        Names of the state vectors that it keeps, each as long as the parameters.
    """

    settings: tuple[str, ...]
    slots: tuple[str, ...]


OPTIMISERS: dict[str, OptimiserFacts] = {
    "sgd": OptimiserFacts(settings=("momentum",), slots=("momentum",)),
    "adam": OptimiserFacts(settings=("betas", "epsilon"), slots=("first", "second")),
}
"""Name in the configuration → facts. A new optimiser is an entry here and a rule in ``UPDATES``."""
