"""When the members of a pack advance in lock-step; no torch, so that ``plan`` can ask."""

from __future__ import annotations

from typing import Literal

Lockstep = Literal["auto", "off"] | int
"""Setting of a study: choose, one member after another, or this many together at most."""

LARGEST_ON_CPU = 1_000_000
"""Multiply-adds of one image up to which a CPU gains from computing members together (``benchmarks/README.md``)."""

TOGETHER = 32
"""Most members together where the setting is ``auto``: more gained nothing (``benchmarks/README.md``)."""


def pays_on_cpu(choice: Lockstep, multiply_adds: int | None) -> bool:
    """Whether members advance together on a CPU, for a network of so many multiply-adds an image (None: nobody
    counted them, and ``auto`` does not).

    A rule and no timing: the two ways round differently, and a resumed run must go on as it began.
    """
    if choice == "auto":
        return multiply_adds is not None and multiply_adds <= LARGEST_ON_CPU
    return choice != "off"


def evenly(count: int, most: int) -> list[int]:
    """Sizes of as few chunks of at most `most` as hold `count`, as equal as can be, the larger first."""
    chunks = -(-count // most)
    return [count // chunks + (index < count % chunks) for index in range(chunks)]
