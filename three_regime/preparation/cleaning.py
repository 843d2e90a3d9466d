"""Clean parallel text: normalise Unicode and white space, drop pairs that cannot be translations."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

CONTROL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")
"""Translation table from Unicode control characters (category Cc) to spaces."""


class Limits(NamedTuple):
    """Limits on training pairs; lengths are in subwords, without the end-of-sentence token.

    Attributes
    ----------
    max_tokens
        Maximum length of either side.
    ratio
        Maximum ratio of the longer to the shorter side.
    """

    max_tokens: int
    ratio: float


def normalised(line: str) -> str:
    """Normalise `line` to NFC, replace control characters and runs of white space by single spaces, and strip it.

    Nothing visible is changed: compatibility characters are kept (NFKC would turn "½" into "1⁄2").
    """
    return " ".join(unicodedata.normalize("NFC", line).translate(CONTROL).split())


def fault(source: int, target: int, limits: Limits) -> str | None:
    """Reason to drop a pair with these lengths; None to keep it."""
    if not source or not target:
        return "empty"
    if max(source, target) > limits.max_tokens:
        return "too long"
    if max(source, target) > limits.ratio * min(source, target):
        return "ratio"
    return None
