"""Price a study: its work, its duration at measured rates, and its disk space.

The pricer depends on the study's setting (`three_regime.settings.Setting.pricer`).
"""

from __future__ import annotations

from three_regime.study.grid import Study
from three_regime.tasks.pricing import JOB_START_S, OTHER_START_S, Pricer, Speed, Work
from three_regime.tasks.rates import RATES, Rates, read_rates

__all__ = [
    "JOB_START_S",
    "OTHER_START_S",
    "RATES",
    "Pricer",
    "Rates",
    "Speed",
    "Work",
    "pricer_of",
    "read_rates",
    "speed_of",
]


def speed_of(rates: Rates, study: Study) -> Speed | None:
    """Rates for a study's network; None if no similar network has been measured."""
    return study.setting.speed(rates, study)


def pricer_of(study: Study) -> Pricer:
    """The pricer of a study."""
    return study.setting.pricer(study)
