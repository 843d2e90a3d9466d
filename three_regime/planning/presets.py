"""List the presets in ``config/`` with a description and their cost at measured rates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from humanfriendly import format_size
from tabulate import tabulate

from three_regime.config import load
from three_regime.planning.plan import make
from three_regime.planning.plan_table import hours, worked
from three_regime.planning.pricing import Rates

PAPER = "(make paper)"


def about(path: Path) -> str:
    """The first clause of the comment at the top of a configuration."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.lstrip("# ") for line in lines if "yaml-language-server" not in line)
    return re.split(r"(?<=[.,;:])\s", text.strip(), maxsplit=1)[0].rstrip(".,;:")


def listing(base: Path, overlays: Sequence[Path | None], rates: Rates | None) -> str:
    """Table of `base` with each of `overlays` (None: alone): GPU hours, CPU core hours, disk, description.

    Hours are those of the remaining work.
    """
    rows = []
    for overlay in overlays:
        plan = make(load([base, *([overlay] if overlay else [])]), [], rates)
        known = rates is not None and not plan.untimed
        gpu, cpu = worked(plan)
        rows.append([
            (overlay.stem if overlay else PAPER) + "*" * bool(plan.scaled),
            hours(gpu if known else None),
            hours(cpu if known else None),
            format_size(sum(row.size for row in plan.rows), binary=False),
            about(overlay or base),
        ])  # fmt: skip
    headers = ["PRESET", "GPU h", "CPU h", "disk", "description"]
    table = tabulate(rows, headers, "simple", disable_numparse=True, colalign=("left", *["right"] * 3, "left"))
    where = [f"Rates: {rates.title}; CPU hours are core hours." if rates else "No rates have been measured."]
    if any("*" in row[0] for row in rows):
        where.append(
            "* scaled from a measured network by multiply-adds; a small network takes up to three times as long."
        )
    return "\n".join([table, "", *where]) + "\n"
