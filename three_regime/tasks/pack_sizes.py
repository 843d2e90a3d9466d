"""Decide when the members of a pack advance in lock-step. Does not import torch, so ``plan`` can use it."""

from __future__ import annotations

from typing import Literal

Lockstep = Literal["auto", "off"] | int
"""`lockstep` of a study: choose automatically, one member after another, or at most this many together."""

LARGEST_ON_CPU = 1_000_000
"""Multiply-adds per image up to which a CPU is faster with members together (``benchmarks/README.md``)."""

TOGETHER = 32
"""Maximum number of members together with ``auto``: more were not faster (``benchmarks/README.md``)."""


def pays_on_cpu(choice: Lockstep, multiply_adds: int | None) -> bool:
    """Whether members advance together on a CPU, given the network's multiply-adds per image (None: unknown, and
    ``auto`` says no).

    A fixed rule instead of a timing, because rounding depends on it and a resumed run must continue the same way.
    """
    if choice == "auto":
        return multiply_adds is not None and multiply_adds <= LARGEST_ON_CPU
    return choice != "off"


def evenly(count: int, most: int) -> list[int]:
    """Sizes of the fewest chunks of at most `most` that hold `count`, as equal as possible, larger first."""
    chunks = -(-count // most)
    return [count // chunks + (index < count % chunks) for index in range(chunks)]
