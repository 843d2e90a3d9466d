"""What a study costs: its work, the time that it takes at measured rates, and bytes on disk. No torch."""

from __future__ import annotations

from three_regime.planning.pricing.frame import JOB_START_S, OTHER_START_S, Pricer, Speed, Work
from three_regime.planning.pricing.images import ImagePricer, image_speed
from three_regime.planning.pricing.rates import RATES, Rates, read_rates
from three_regime.planning.pricing.text import TextPricer, text_speed
from three_regime.study.grid import Study

__all__ = [
    "JOB_START_S",
    "OTHER_START_S",
    "RATES",
    "ImagePricer",
    "Pricer",
    "Rates",
    "Speed",
    "TextPricer",
    "Work",
    "image_speed",
    "pricer_of",
    "read_rates",
    "speed_of",
    "text_speed",
]


def speed_of(rates: Rates, study: Study) -> Speed | None:
    """Rates of a study's network, whatever its data; None where nothing like it has been measured."""
    return (text_speed if _is_text(study) else image_speed)(rates, study)


def pricer_of(study: Study) -> Pricer:
    """What prices a study, by its data."""
    return (TextPricer if _is_text(study) else ImagePricer)(study)


def _is_text(study: Study) -> bool:
    return study.config.dataset.entry.kind == "text"
