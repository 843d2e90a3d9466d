"""Markdown that several pages share."""

from __future__ import annotations

from collections.abc import Iterable


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a table; a bar inside a cell is escaped."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(str(value).replace("|", "\\|") for value in line) + " |" for line in lines]
