"""WMT14 German–English: training text of three corpora, newstest2013 for validation, newstest2014 for testing.

The training text is read in the order of the shared task's page: Europarl, Common Crawl, News Commentary. A small
number of training pairs therefore consists of proceedings of the European Parliament.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from three_regime.datasets.aligned_text import read_aligned
from three_regime.datasets.sgml import read_aligned_segments

TRAIN = {
    "training/europarl-v7.de-en": 1_920_209,
    "commoncrawl.de-en": 2_399_123,
    "training/news-commentary-v9.de-en": 201_288,
}
"""File name without language → published number of pairs."""

HELD_OUT = {
    "validation": ("test/newstest2013-src.de.sgm", "test/newstest2013-src.en.sgm"),
    "test": ("test-full/newstest2014-deen-src.de.sgm", "test-full/newstest2014-deen-ref.en.sgm"),
}


def read(raw: Path, split: str) -> Iterator[tuple[str, str]]:
    """Read the German–English pairs of a split from the members of the official archives below `raw`.

    Raises
    ------
    UserError
        As `read_aligned` and `read_aligned_segments`; also when a training file does not have the published number of
        lines.
    """
    if split in HELD_OUT:
        german, english = HELD_OUT[split]
        yield from read_aligned_segments(raw / german, raw / english)
        return
    for name, pairs in TRAIN.items():
        yield from read_aligned(raw / f"{name}.de", raw / f"{name}.en", pairs)
