"""Read the SGML of WMT test sets until 2020: documents of numbered segments, one file per language."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from three_regime.datasets.aligned_text import read_lines
from three_regime.errors import UserError

_SECTION = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_TAG = re.compile(r"<(/?)(srcset|refset|tstset|doc|p|hl|seg)(\s[^<>]*)?>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|(\S+))""")
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-f]+|\w+);", re.IGNORECASE)


class Segment(NamedTuple):
    """One segment: its document, its number there, and its text.

    Each run of white space, including line breaks, is one space, as in sacrebleu, whose references are the official
    ones. Entities are resolved, which sacrebleu leaves to the tokeniser of BLEU. Whatever is neither a tag of the
    format nor an entity is text.
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
    content = _without_sections("".join(f"{line}\n" for line in read_lines(path)), path)
    segments: dict[tuple[str, str], Segment] = {}
    document, number, begin = "", "", 0
    for tag in _TAG.finditer(content):
        closes, name = bool(tag[1]), tag[2].lower()
        if number and not (closes and name == "seg"):
            raise UserError(f"{path}: segment {number} of document {document} is not closed")
        if name == "doc":
            document = "" if closes else _attribute(tag, "docid")
        elif name == "seg" and not closes:
            number, begin = _attribute(tag, "id"), tag.end()
            if fault := _fault(document, number, segments):
                raise UserError(f"{path}, line {_line(content, tag.start())}: {fault}")
        elif number:
            segments[document, number] = Segment(document, number, _text(content[begin : tag.start()]))
            number = ""
    if number:
        raise UserError(f"{path}: segment {number} of document {document} is not closed")
    return list(segments.values())


def _fault(document: str, number: str, segments: dict[tuple[str, str], Segment]) -> str | None:
    if not document:
        return "a segment is outside a document with a docid"
    if not number:
        return "a segment has no id"
    return f"document {document} has two segments {number}" if (document, number) in segments else None


def _attribute(tag: re.Match[str], wanted: str) -> str:
    """Value of an attribute of a tag; empty if it has none."""
    for name, *values in _ATTRIBUTE.findall(tag[3] or ""):
        if name.lower() == wanted:
            return html.unescape("".join(values))
    return ""


def _text(content: str) -> str:
    return " ".join(_ENTITY.sub(lambda entity: html.unescape(entity[0]), content).split())


def _line(content: str, place: int) -> int:
    return content.count("\n", 0, place) + 1


def _without_sections(text: str, path: Path) -> str:
    """Replace CDATA sections by plain text; line numbers are unchanged."""
    plain = _SECTION.sub(lambda section: html.escape(section[1], quote=False), text)
    if (at := plain.find("<![CDATA[")) >= 0:
        raise UserError(f"{path}, line {_line(plain, at)}: a CDATA section is not closed")
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
