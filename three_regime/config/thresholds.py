"""Where the regimes part; the configuration takes its defaults and ranges from here. No pandas, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from three_regime.errors import UserError


@dataclass(frozen=True)
class Thresholds:
    """Where the regimes part: ``lmc`` (a fraction of training error, < 0) and ``cka`` (0 … 1).

    The defaults are fitted on the published Figure 2: `lmc` is the middle of the plateau of balanced accuracy, `cka`
    barely follows the line drawn there (this project's choice).

    `inherited` names the data set that they were set for, where it is another than that of the study which they judge;
    it is empty otherwise. `plan` and the figures say it.

    Raises
    ------
    UserError
        When a value is out of range; the message names the key.
    """

    lmc: float = -0.12
    cka: float = 0.99
    inherited: str = ""

    def __post_init__(self) -> None:
        if not -1 <= self.lmc < 0:
            raise UserError(f"thresholds.lmc: {self.lmc!r} must be at least -1 and below 0 (0 is no barrier)")
        if not 0 < self.cka < 1:
            raise UserError(f"thresholds.cka: {self.cka!r} must lie between 0 and 1")
