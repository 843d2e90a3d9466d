"""Words of the figures of a setting, where they are not those of images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.text import Text

Words = Sequence[tuple[str, str]]
"""Phrase → what takes its place, in the order in which they are tried (`three_regime.settings.Setting.words`)."""


def reworded(text: str, words: Words) -> str:
    """`text` with the first phrase that it holds replaced; words of a phrase may stand on one line or on several."""
    for phrase, instead in words:
        pattern = r"\s+".join(map(re.escape, phrase.split()))
        if found := re.search(pattern, text):
            lines = instead if "\n" in found.group() else " ".join(instead.split())
            return re.sub(pattern, lambda _, lines=lines: lines, text)
    return text


def reword(figure: Figure, words: Words) -> None:
    """Put a setting's words into a finished figure."""
    for text in figure.findobj(Text):
        text.set_text(reworded(text.get_text(), words))
