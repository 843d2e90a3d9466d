"""Knobs: the settings that control the temperature of dense training.

A knob overrides one training setting (or, for ``epochs``, the epoch at which dense training stops) and
declares which direction is hotter: fewer epochs, a smaller batch, a larger SAM radius, a larger learning rate
(paper, section 3.1), more weight decay or dropout (this project's choice). A new knob is an entry of ``KNOBS``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from three_regime.errors import UserError
from three_regime.system import registries


@dataclass(frozen=True)
class Knob:
    """One way to set the temperature.

    Attributes
    ----------
    name
        Name in the configuration (`knob:`) and in tables.
    setting
        The dense training setting that a temperature replaces; None for ``epochs``, whose temperatures are early-stop
        epochs of one run.
    label
        Axis label in figures, with unit if any; a setting may override it (`Setting.knob_labels`).
    prefix, width
        Folder name is `prefix` + the value, padded with zeros to `width` digits before the point
        (``epochs040``, ``rho0p1``).
    hotter
        Whether a ``lower`` or a ``higher`` value is hotter.
    integer
        Whether values must be integers.
    """

    name: str
    setting: str | None
    label: str
    prefix: str
    width: int
    hotter: Literal["lower", "higher"]
    integer: bool

    def folder(self, value: float) -> str:
        """Folder name of a temperature, e.g. ``epochs040``, ``batch064``, ``rho0p1``."""
        return self.prefix + number_in_path(value, self.width)

    def hot_first(self, values: list[float]) -> list[float]:
        """`values` ordered from the hottest to the coldest."""
        return sorted(values, reverse=self.hotter == "higher")


KNOBS: dict[str, Knob] = {
    knob.name: knob
    for knob in (
        Knob("epochs", None, "dense training epochs", "epochs", 3, "lower", True),
        Knob("batch_size", "batch_size", "dense batch size (images)", "batch", 3, "lower", True),
        Knob("sam_rho", "sam_rho", "SAM radius ρ", "rho", 1, "higher", False),
        Knob("learning_rate", "learning_rate", "dense learning rate", "lr", 1, "higher", False),
        Knob("weight_decay", "weight_decay", "dense weight decay", "wd", 1, "higher", False),
        Knob("dropout", "dropout", "dense dropout rate", "dropout", 1, "higher", False),
    )
}


def register(knob: Knob) -> None:
    """Register a knob, for plugins. See `registries.add`.

    Raises
    ------
    UserError
        When its prefix, the first part of the name of a folder, holds anything but lower-case letters.
    """
    if not re.fullmatch("[a-z]+", knob.prefix):
        raise UserError(f"knob {knob.name}: the prefix {knob.prefix!r} must be lower-case letters")
    registries.add(KNOBS, knob, "knob")


def number_in_path(value: float, width: int) -> str:
    """Format `value` for a path: `width` digits before the point, ``p`` for the point, no trailing zeros.

    Raises
    ------
    UserError
        When the value is negative or needs more than six decimals.
    """
    if value < 0 or abs(round(value, 6) - value) > 1e-12:
        raise UserError(f"{value!r} cannot be written in a path: use a value >= 0 with at most six decimals")
    whole, _, decimals = f"{value:.6f}".partition(".")
    decimals = decimals.rstrip("0")
    return whole.zfill(width) + (f"p{decimals}" if decimals else "")


def density_folder(density: float) -> str:
    """Folder name of a density in percent: 0.05 → ``density005``, 0.125 → ``density012p5``.

    Raises
    ------
    UserError
        When the density is 0 % with six decimals.
    """
    percent = round(density * 100, 6)
    if percent == 0:
        raise UserError(f"{density!r} cannot be written in a path: use a density of at least 1e-8")
    return "density" + number_in_path(percent, 3)
