"""Words of the figures of a setting, where they are not those of images."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.text import Text


def reword(figure: Figure, words: Sequence[tuple[str, str]]) -> None:
    """Put a setting's words (`three_regime.settings.Setting.words`) into a finished figure."""
    for text in figure.findobj(Text):
        for phrase, instead in words:
            if phrase in text.get_text():
                text.set_text(text.get_text().replace(phrase, instead))
                break
