"""LMC and CKA thresholds that separate the regimes, with their default values."""

from __future__ import annotations

from dataclasses import dataclass

from three_regime.errors import UserError


@dataclass(frozen=True)
class Thresholds:
    """Thresholds that separate the regimes: ``lmc`` (a fraction of training error, < 0) and ``cka`` (in (0, 1)).

    The default of `lmc` lies on the plateau of balanced accuracy fitted to the published Figure 2. The drawn
    line between II-A and II-B barely follows CKA, so the default of `cka` is this project's choice.

    `inherited` names the data set that the thresholds were set for, if that is not the study's own; else it is empty.
    `plan` and the figures show it.

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
