"""Post-process Snakemake's HTML report: escape embedded text, open on a figure, order its contents, render tables."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from three_regime.errors import UserError
from three_regime.study.outputs import GRID_FIGURES, LAYER_FIGURES, LOAD_GRID_FIGURES, MEASURE_TABLES, RUN_FIGURES

_DATA = re.compile(r'(<script id="[\w-]+">\n)(.*?)(\n *</script>)', re.DOTALL)

ORDER = (
    "scorecard",
    *dict.fromkeys(name for both in zip(GRID_FIGURES, LOAD_GRID_FIGURES, strict=False) for name in both),
    "claims",
    *RUN_FIGURES,
    *LAYER_FIGURES,
    *MEASURE_TABLES,
    "regimes",
    "selection_summary",
)
"""Names of what the report shows, in the order of the method; others follow by name."""

SNAKEMAKE = "9.27"
"""Version of Snakemake whose report is known here."""

OPENS_ON = "phase_diagram"
"""What is shown first."""

_TABLE = """<!doctype html><meta charset="utf-8"><style>body{font:14px sans-serif;margin:1em}
table{border-collapse:collapse}
td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}th{border-bottom:2px solid #888}
</style>"""

_OPENING = """<style>#app img { max-height: 96vh; }</style>
    <script>
    (function show() {
        if (app === undefined) { setTimeout(show, 20); return; }
        const category = %(category)s, subcategory = %(part)s, path = %(path)s;
        const content = { content: "img", contentPath: results[path].data_uri, resultPath: path };
        app.setView({ navbarMode: "subcategory", category, subcategory, ...content });
    })();
    </script>
"""


def without_early_ends(html: str) -> str:
    """Escape ``</`` and ``<!--`` inside data blocks, where they would end the block or open a comment.

    Each block holds JSON without line breaks, in which both have equivalent escapes.
    """
    return _DATA.sub(lambda block: block[1] + _spelt_out(block[2]) + block[3], html)


def _spelt_out(data: str) -> str:
    return data.replace("</", r"<\/").replace("<!--", r"<\u0021--")


def arranged(html: str) -> str:
    """A report whose results are in the method's order, its tables pages, and a phase diagram shown first.

    Raises
    ------
    UserError
        When it has no blocks ``results`` and ``categories``: another version of Snakemake writes it otherwise.
    """
    results, categories = _block(html, "results"), _block(html, "categories")
    shown = {path: _readable(entry) for path, entry in results.items()}
    ordered = {
        category: {part: sorted(paths, key=_turn) for part, paths in parts.items()}
        for category, parts in categories.items()
    }
    for paths in (paths for parts in ordered.values() for paths in parts.values()):
        for number, path in enumerate(paths, 1):  # Snakemake's page sorts by the labels
            labels = shown[path].get("labels") or {}
            shown[path]["labels"] = {key: f"{number:02d} {value}" for key, value in labels.items()}
    html = _put(_put(html, "results", shown), "categories", ordered)
    places = [(one, part, path) for one, parts in ordered.items() for part, paths in parts.items() for path in paths]
    for place in places:
        if PurePosixPath(place[-1]).stem == OPENS_ON:
            names = zip(("category", "part", "path"), (_spelt_out(json.dumps(name)) for name in place), strict=True)
            before, end, after = html.rpartition("</body>")
            return before + _OPENING % dict(names) + end + after
    return html


def _turn(path: str) -> tuple[int, str]:
    name = PurePosixPath(path).stem
    return ORDER.index(name) if name in ORDER else len(ORDER), path


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf'(<script id="{name}">\s*var \w+ = )(.*?)(;\s*</script>)', re.DOTALL)


def _block(html: str, name: str) -> dict[str, Any]:
    found = _pattern(name).search(html)
    with contextlib.suppress(ValueError):
        if found:
            return json.loads(found[2])
    raise UserError(
        f"Snakemake {version('snakemake')} writes its report in another way (no block of data {name!r}): install"
        f" Snakemake {SNAKEMAKE}, as `make env` does"
    )


def _put(html: str, name: str, data: Mapping[str, Any]) -> str:
    return _pattern(name).sub(lambda found: found[1] + _spelt_out(json.dumps(data)) + found[3], html, count=1)


def _readable(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A result as it is, a table (CSV) as a page that the report can show."""
    if entry["mime_type"] != "text/csv" or ";base64," not in entry["data_uri"]:
        return dict(entry)
    text = base64.b64decode(entry["data_uri"].partition(";base64,")[2]).decode("utf-8")
    page = base64.b64encode((_TABLE + _html_table(text)).encode()).decode()
    return {**entry, "mime_type": "text/html", "data_uri": f"data:text/html;charset=utf8;base64,{page}"}


def _html_table(text: str) -> str:
    import pandas as pd

    return pd.read_csv(io.StringIO(text)).to_html(index=False, na_rep="", border=0, float_format="{:.4g}".format)
