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
    later_settings
        Further keys, added when results already existed: results record them only where they differ from their
        defaults, so that earlier ones stay valid.
    """

    settings: tuple[str, ...]
    slots: tuple[str, ...]
    later_settings: tuple[str, ...] = ()


OPTIMISERS: dict[str, OptimiserFacts] = {
    "sgd": OptimiserFacts(settings=("momentum",), slots=("momentum",)),
    "adam": OptimiserFacts(
        settings=("betas", "epsilon"), slots=("first", "second"), later_settings=("epsilon_placement",)
    ),
}
"""Name in the configuration → properties. A new optimiser needs an entry here and an update rule in ``UPDATES``."""


def settings_of_others(optimiser: str) -> set[str]:
    """Keys of `Training` that only other optimisers than this one use."""
    used = {name: {*facts.settings, *facts.later_settings} for name, facts in OPTIMISERS.items()}
    return set().union(*used.values()) - used[optimiser]
