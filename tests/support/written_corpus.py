"""A parallel corpus of files written and registered by a test, and WMT's SGML around text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from checkout import SHARED

from three_regime.config import DatasetChoice
from three_regime.datasets.aligned_text import read_aligned, read_lines
from three_regime.datasets.corpora import SPLITS, ParallelCorpus
from three_regime.datasets.registry import DATASETS
from three_regime.preparation.prepare import prepare
from three_regime.preparation.prepared_text import PreparedText, open_text
from three_regime.study.grid import prepared_path

NAME = "written"
REAL = SHARED / "data" / "deen"

Pair = tuple[str, str]

STUDY: dict[str, Any] = {
    "model": "transformer-1x16x2",
    "knob": "epochs",
    "temperatures": [1],
    "densities": [0.5],
    "dense": {"epochs": 1, "batch_size": 1000},
    "retrain": {"epochs": 1, "batch_size": 1000},
    "measure": {"train_pairs": 100},
}
"""A study of translation to which a data set has to be added."""


def read(raw: Path, split: str) -> Iterator[Pair]:
    return read_aligned(raw / f"{split}.de", raw / f"{split}.en")


def register(monkeypatch: pytest.MonkeyPatch, data: Path, **pairs: Sequence[Pair]) -> Path:
    """Write the splits (by default two pairs each) below `data` and register them; returns the raw folder."""
    monkeypatch.setitem(DATASETS, NAME, ParallelCorpus(NAME, None, None, None, "written_corpus:read", (), "of a test"))
    raw = data / "raw" / NAME
    raw.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        for side, language in enumerate(("de", "en")):
            lines = [pair[side] for pair in pairs.get(split, [("Ein Haus.", "A house."), ("Ja.", "Yes.")])]
            (raw / f"{split}.{language}").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return raw


def prepared(data: Path, name: str = NAME, **settings: object) -> PreparedText:
    """Prepare a corpus in `data` and open it."""
    choice = DatasetChoice(name=name, **settings)
    prepare(choice, data)
    return open_text(prepared_path(choice, data))


def real(name: str) -> list[Pair]:
    """Pairs of a real text in the shared folder; the test is skipped where that is absent."""
    if not (REAL / f"{name}.de").is_file():
        pytest.skip(f"no real text at {REAL}")
    return list(zip(*(read_lines(REAL / f"{name}.{language}") for language in ("de", "en")), strict=True))


def sgml(kind: str, lines: Sequence[str], size: int = 40) -> bytes:
    """`lines` as documents of `size` segments, in the manner of WMT's files."""
    text = [f'<{kind} setid="newstest" srclang="any">']
    for start in range(0, len(lines), size):
        text.append(f'<doc docid="news.{start}" genre="news" origlang="de">\n<hl>')
        for number, line in enumerate(lines[start : start + size], 1):
            text += [*(["<p>"] if number == 2 else []), f'<seg id="{number}">{escape(line)}</seg>']
            text += ["</hl>"] if number == 1 else []
        text.append("</p>\n</doc>")
    return "\n".join([*text, f"</{kind}>\n"]).encode()
