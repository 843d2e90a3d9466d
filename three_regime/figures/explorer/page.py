"""The explorer's file: page, style, scripts and content in one, which asks no other host for anything.

Text of studies is data throughout: it stands in a block of JSON that it cannot end, and the scripts put it into the
page as text. Should one of them forget it, the page's policy still refuses every script but its own, and every request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from three_regime.config.thresholds import Thresholds
from three_regime.figures.explorer import content
from three_regime.system.files import write_text

SCRIPTS = ("regimes.js", "algorithms.js", "charts.js", "cell.js", "explorer.js")
"""In the order in which they are put into the page."""


def write(path: Path, folders: Mapping[Path, Thresholds], published: Thresholds | None) -> Path:
    """Write what `render` returns; the same tables give the same bytes. Returns `path`.

    Raises
    ------
    UserError
        As `render`, or when the file cannot be written.
    """
    write_text(path, render(folders, published))
    return path


def render(folders: Mapping[Path, Thresholds], published: Thresholds | None) -> str:
    """The explorer of some studies: the text of one HTML file.

    Parameters
    ----------
    folders
        Folder of each study's tables → the thresholds of its regimes.
    published
        Thresholds for the published Figure 2; None leaves it out.

    Raises
    ------
    UserError
        When a table is missing, damaged or lacks a column.
    """
    studies = [content.of_study(Path(folder), thresholds) for folder, thresholds in folders.items()]
    if published is not None:
        studies.append(content.of_published(published))
    style = _source("explorer.css")
    script = "\n".join(_source(name) for name in SCRIPTS)
    names = ", ".join(study["title"] for study in studies) or "no study"
    return Template(_source("page.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'",
        title=html.escape(f"Three regimes of pruning: {names}"),
        style=style,
        script=script,
        content=_block({"studies": studies, "rules": content.RULES, "look": content.look()}),
    )


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a policy names the one script or style that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _block(value: Any) -> str:
    """JSON without a character that could end its block or open a comment in it."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
