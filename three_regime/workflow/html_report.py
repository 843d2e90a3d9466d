"""Snakemake's HTML report, made safe: it puts settings and texts into its scripts as they are."""

from __future__ import annotations

import re

_DATA = re.compile(r'(<script id="[\w-]+">\n)(.*?)(\n *</script>)', re.DOTALL)


def without_early_ends(html: str) -> str:
    """`html` in which no text inside a block of data ends that block (``</script>``) or opens a comment in it.

    Each block holds JSON without line breaks, in which ``</`` and ``<!--`` have spellings of the same meaning.
    """
    return _DATA.sub(lambda block: block[1] + _spelt_out(block[2]) + block[3], html)


def _spelt_out(data: str) -> str:
    return data.replace("</", r"<\/").replace("<!--", r"<\u0021--")
