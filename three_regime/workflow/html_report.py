"""Escape Snakemake's HTML report, which embeds settings and texts in scripts unescaped."""

from __future__ import annotations

import re

_DATA = re.compile(r'(<script id="[\w-]+">\n)(.*?)(\n *</script>)', re.DOTALL)


def without_early_ends(html: str) -> str:
    """Escape ``</`` and ``<!--`` inside data blocks, where they would end the block or open a comment.

    Each block holds JSON without line breaks, in which both have equivalent escapes.
    """
    return _DATA.sub(lambda block: block[1] + _spelt_out(block[2]) + block[3], html)


def _spelt_out(data: str) -> str:
    return data.replace("</", r"<\/").replace("<!--", r"<\u0021--")
