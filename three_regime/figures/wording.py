"""Words of the figures of a setting, where they are not those of images."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.text import Text

Words = Sequence[tuple[str, str]]
"""Phrase → what takes its place, in the order in which they are tried (`three_regime.settings.Setting.words`)."""


def reworded(text: str, words: Words) -> str:
    """`text` with the first phrase that it holds replaced."""
    for phrase, instead in words:
        if phrase in text:
            return text.replace(phrase, instead)
    return text


def reword(figure: Figure, words: Words) -> None:
    """Put a setting's words into a finished figure."""
    for text in figure.findobj(Text):
        text.set_text(reworded(text.get_text(), words))
