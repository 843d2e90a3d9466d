"""Markdown that several pages share."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a table. No line break, bar, tag or link in the text of a cell counts as one."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(_cell(str(value)) for value in line) + " |" for line in lines]


def _cell(text: str) -> str:
    """`text` on one line; emphasis and code are left, they reach no further than the cell."""
    one_line = " ".join(text.split())
    escaped = one_line.replace("\\|", "|").replace("|", "\\|").replace("](", "]\\(")
    return _TAG.sub("&lt;", escaped)
