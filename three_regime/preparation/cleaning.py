"""Cleaning of parallel text: one spelling of each character, plain spaces, no pair that cannot be a translation."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

CONTROL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")
"""Unicode's control characters (category Cc), each to a space."""


class Limits(NamedTuple):
    """What a training pair must keep to; lengths are in subwords, without the end-of-sentence symbol.

    Attributes
    ----------
    max_tokens
        Longest side.
    ratio
        Largest quotient of the two lengths, the longer over the shorter.
    """

    max_tokens: int
    ratio: float


def normalised(line: str) -> str:
    """`line` in Unicode's composed form (NFC), control characters and runs of white space as one space each, stripped.

    Nothing that a reader sees is changed: compatibility characters stay (NFKC would make "½" of one half "1⁄2").
    """
    return " ".join(unicodedata.normalize("NFC", line).translate(CONTROL).split())


def fault(source: int, target: int, limits: Limits) -> str | None:
    """Why a pair with sides of these lengths is left out, or None when it is kept."""
    if not source or not target:
        return "empty"
    if max(source, target) > limits.max_tokens:
        return "too long"
    if max(source, target) > limits.ratio * min(source, target):
        return "ratio"
    return None
