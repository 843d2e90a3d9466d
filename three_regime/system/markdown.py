"""Markdown tables and escaped text."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a table; line breaks, bars, tags and links in cells are escaped."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(escaped(value) for value in line) + " |" for line in lines]


def escaped(value: object) -> str:
    """Text for a cell or heading, in one line; emphasis and code are kept, since they cannot extend beyond it."""
    text = str(value)
    one_line = " ".join(text.split())
    escaped = one_line.replace("\\|", "|").replace("|", "\\|").replace("](", "]\\(")
    return _TAG.sub("&lt;", escaped)
