"""Words of the figures of translation studies: where images have a test error, they show 100 − BLEU on validation."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.text import Text

from three_regime.datasets.registry import DATASETS

BLEU_WORDS = (
    ("normalised test error\n(percentage points)", "100 − BLEU,\nabove the best"),
    ("dense test error\n(%)", "dense\n100 − BLEU"),
    ("test error\n(%)", "100 − BLEU"),
    ("test error (%)", "100 − BLEU"),
    ("percentage points", "BLEU points"),
    ("LMC, training error\n(fraction)", "LMC, training\ntoken error (fraction)"),
    ("LMC, test error\n(fraction)", "LMC, validation\ntoken error (fraction)"),
    ("test error", "100 − BLEU"),
)
"""Phrase → what takes its place in figures of cells, in this order."""

TOKEN_WORDS = (
    ("training error (%)", "training token error (%)"),
    ("test error (%)", "validation token error (%)"),
    ("test NLL (nats)", "validation NLL (nats a token)"),
)
"""The same for figures of training and of lines, which show errors of tokens."""

BY_TOKEN = ("lmc_lines", "training_curves")


def is_translation(dataset: str) -> bool:
    """Whether a table's ``dataset`` is a parallel corpus."""
    entry = DATASETS.get(dataset)
    return entry is not None and entry.kind == "text"


def reword(figure: Figure, name: str) -> None:
    """Put a translation's words into the finished figure called `name`."""
    words = TOKEN_WORDS if name in BY_TOKEN else BLEU_WORDS
    for text in figure.findobj(Text):
        for phrase, instead in words:
            if phrase in text.get_text():
                text.set_text(text.get_text().replace(phrase, instead))
                break
