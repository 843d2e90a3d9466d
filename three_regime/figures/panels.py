"""How each measure is shown in a panel: label, unit, direction and decimals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from three_regime.config.measures import measured_columns
from three_regime.errors import UserError

NOISE = 4
"""Standard errors that the colours of a panel span at least."""


@dataclass(frozen=True)
class Panel:
    """How one column of grid.csv is shown.

    Attributes
    ----------
    label
        With unit.
    factor
        From the unit of the table to that of the label.
    low_is_good
        Whether a low value is good: the light end of the colours.
    decimals
        Of a value printed in its cell, where there is room.
    least
        Least range of the colours where no standard error is known: a smaller one would show noise.
    ends
        Least and largest possible value.
    """

    label: str
    factor: float
    low_is_good: bool
    decimals: int = 3
    least: float = 0.02
    ends: tuple[float, float] = (-math.inf, math.inf)

    def widened(self, low: float, high: float, least: float) -> tuple[float, float]:
        """A range of values around this one, at least `least` wide and within the possible values."""
        bottom, top = self.ends
        size = max(high - low, least)
        start = min(max((low + high - size) / 2, bottom), top - size)
        return max(start, bottom), start + size

    @property
    def name(self) -> str:
        """The label without its unit."""
        return self.label.split("(")[0].strip(" ,\n").replace("\n", " ")


PANELS: dict[str, Panel] = {
    "test_error": Panel("test error\n(%)", 100, True, 1, 1, (0, 100)),
    "normalised_test_error": Panel("normalised test error\n(percentage points)", 100, True, 1, 1, (0, 100)),
    "lmc": Panel("LMC, training error\n(fraction)", 1, False),
    "cka_softmax": Panel("CKA of softmax\noutputs (0 to 1)", 1, False, ends=(0, 1)),
    "dense_test_error": Panel("dense test error\n(%)", 100, True, 1, 1, (0, 100)),
    "lmc_middle": Panel("mean deviation,\nt 0.3…0.7 (fraction)", 1, False),
    "lmc_nll": Panel("LMC, training NLL\n(nats)", 1, False),
    "lmc_test": Panel("LMC, test error\n(fraction)", 1, False),
    "cka_logits": Panel("CKA of logits\n(0 to 1)", 1, False, ends=(0, 1)),
}
"""Every measure that can be a panel; the first four are those of Figure 2, in its order."""

FIGURE_2 = tuple(PANELS)[:4]


def panel_of(metric: str) -> Panel:
    """How a measure is shown, an additional one too.

    Raises
    ------
    UserError
        When the measure is unknown.
    """
    if metric in PANELS:
        return PANELS[metric]
    also = measured_columns()
    if metric not in also:
        raise UserError(f"unknown metric {metric!r} for a phase diagram; choose one of {', '.join([*PANELS, *also])}")
    column = also[metric][1]
    return Panel(column.label, 1, column.low_is_good, least=0)
