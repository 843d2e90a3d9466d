"""What a study costs: its work, the time that it takes at measured rates, and bytes on disk. No torch.

The setting of a study prices it (`three_regime.settings.Setting.pricer`).
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
    """Rates of a study's network, whatever its data; None where nothing like it has been measured."""
    return study.setting.speed(rates, study)


def pricer_of(study: Study) -> Pricer:
    """What prices a study, by its data."""
    return study.setting.pricer(study)
