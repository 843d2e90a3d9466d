"""WMT14 German–English: training text of three corpora, newstest2013 for validation, newstest2014 for the test.

The training text is read in the order of the shared task's page: Europarl, Common Crawl, News Commentary. The first N
pairs of a small N are therefore proceedings of the European Parliament.
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
"""Files, without the language, and their numbers of pairs as published."""

HELD_OUT = {
    "validation": ("test/newstest2013-src.de.sgm", "test/newstest2013-src.en.sgm"),
    "test": ("test-full/newstest2014-deen-src.de.sgm", "test-full/newstest2014-deen-ref.en.sgm"),
}


def read(raw: Path, split: str) -> Iterator[tuple[str, str]]:
    """German–English pairs of a split from the members of the official archives below `raw`.

    Raises
    ------
    UserError
        As `read_aligned`, also when a training file has not the published number of lines, and
        `read_aligned_segments`.
    """
    if split in HELD_OUT:
        german, english = HELD_OUT[split]
        yield from read_aligned_segments(raw / german, raw / english)
        return
    for name, pairs in TRAIN.items():
        yield from read_aligned(raw / f"{name}.de", raw / f"{name}.en", pairs)
