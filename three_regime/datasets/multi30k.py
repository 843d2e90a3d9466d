"""Multi30k German–English (Elliott et al. 2016): image captions, small enough for a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from three_regime.datasets.aligned_text import read_aligned

NAMES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
PAIRS = {"train": 29_000, "validation": 1_014, "test": 1_000}


def read(raw: Path, split: str) -> Iterator[tuple[str, str]]:
    """German–English pairs of a split from ``multi30k.<name>.{de,en}`` in `raw` (see `read_aligned` for errors)."""
    german, english = (raw / f"multi30k.{NAMES[split]}.{language}" for language in ("de", "en"))
    return read_aligned(german, english, PAIRS[split])
