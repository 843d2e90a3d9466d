"""Read the SGML of WMT test sets until 2020: documents of numbered segments, one file per language."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

from three_regime.datasets.aligned_text import read_lines
from three_regime.errors import UserError

_SECTION = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)


class Segment(NamedTuple):
    """One segment: its document, its number there, and its text.

    Entities are resolved, and each run of white space, including line breaks, is one space, as in sacrebleu, whose
    references are the official ones.
    """

    document: str
    number: str
    text: str


def read_segments(path: Path) -> list[Segment]:
    """Read the segments of a file, in file order.

    Raises
    ------
    UserError
        When the file is missing or not UTF-8, or a segment is outside a document, is not closed, has no number, or
        repeats the number of another in its document.
    """
    parser = _Parser(path)
    parser.feed(_without_sections("".join(f"{line}\n" for line in read_lines(path)), path))
    parser.close()
    parser.end()
    return parser.segments


def _without_sections(text: str, path: Path) -> str:
    """Replace CDATA sections by plain text; line numbers are unchanged."""
    plain = _SECTION.sub(lambda section: html.escape(section[1], quote=False), text)
    if (at := plain.find("<![CDATA[")) >= 0:
        raise UserError(f"{path}, line {plain.count(chr(10), 0, at) + 1}: a CDATA section is not closed")
    return plain


def read_aligned_segments(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    """Yield pairs of segment texts of two files, which must hold the same documents and segments in the same order.

    Raises
    ------
    UserError
        When they do not (the message names both files and the first difference), or as `read_segments`.
    """
    both = [read_segments(path) for path in (source, target)]
    if len(both[0]) != len(both[1]):
        raise UserError(
            f"{source} and {target} are not aligned: they hold {len(both[0]):,} and {len(both[1]):,} segments"
        )
    for ours, theirs in zip(*both, strict=True):
        if ours[:2] != theirs[:2]:
            raise UserError(
                f"{source} and {target} are not aligned: segment {ours.number} of document {ours.document} is paired"
                f" with segment {theirs.number} of document {theirs.document}"
            )
    yield from ((ours.text, theirs.text) for ours, theirs in zip(*both, strict=True))


class _Parser(HTMLParser):
    """Collect segments. Tags that do not belong to the format are kept as text."""

    TAGS = frozenset(("srcset", "refset", "tstset", "doc", "p", "hl", "seg"))

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.path = path
        self.segments: list[Segment] = []
        self.known: set[tuple[str, str]] = set()
        self.document: str | None = None
        self.number: str | None = None
        self.text: list[str] = []

    def set_cdata_mode(self, *_: Any, **__: Any) -> None:
        """Nothing: no element holds raw text here, as ``script`` does in HTML."""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.TAGS:
            super().handle_startendtag(tag, attrs)
        else:
            self.handle_data(self.get_starttag_text() or "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.TAGS:
            self.handle_data(self.get_starttag_text() or "")
            return
        self.end()
        attributes = dict(attrs)
        if tag == "doc":
            self.document = attributes.get("docid")
        if tag == "seg":
            self._begin(attributes.get("id"))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.TAGS:
            self.handle_data(f"</{tag}>")
        elif tag == "seg" and self.number is not None:
            self.segments.append(Segment(self.document or "", self.number, " ".join("".join(self.text).split())))
            self.number = None
        else:
            self.end()
            self.document = None if tag == "doc" else self.document

    def handle_data(self, data: str) -> None:
        if self.number is not None:
            self.text.append(data)

    def handle_pi(self, data: str) -> None:
        self.handle_data(f"<?{data}>")

    def handle_decl(self, decl: str) -> None:
        self.handle_data(f"<!{decl}>")

    def unknown_decl(self, data: str) -> None:
        self.handle_data(f"<![{data}]>")

    def end(self) -> None:
        """Raise if a segment is not closed."""
        if self.number is not None:
            raise UserError(f"{self.path}: segment {self.number} of document {self.document} is not closed")

    def _begin(self, number: str | None) -> None:
        line = self.getpos()[0]
        if not self.document:
            raise UserError(f"{self.path}, line {line}: a segment is outside a document with a docid")
        if not number:
            raise UserError(f"{self.path}, line {line}: a segment has no id")
        if (self.document, number) in self.known:
            raise UserError(f"{self.path}, line {line}: document {self.document} has two segments {number}")
        self.known.add((self.document, number))
        self.number, self.text = number, []
