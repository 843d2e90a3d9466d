"""Write the verdicts on a study's claims as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from three_regime.analysis import seed_means
from three_regime.analysis.claims import NOT_TESTED, OUTCOMES, amount, evaluate
from three_regime.analysis.tables import CELL
from three_regime.config import Claim
from three_regime.config.thresholds import Thresholds
from three_regime.settings import Setting
from three_regime.study.outputs import CLAIM_FILES
from three_regime.system import markdown
from three_regime.system.files import read_table, write_csv, write_text

_COLUMNS = ("claim", "expected", "difference over dense seeds", "seeds that agree", "outcome", "for these networks")


def write(folder: Path, claims: Sequence[Claim], thresholds: Thresholds) -> list[Path]:
    """Test the claims on the tables in `folder`; write ``claims.csv`` and ``claims.md`` there; return their paths."""
    table, page = of_folder(folder, claims, thresholds)
    write_csv(folder / "claims.csv", table)
    write_text(folder / "claims.md", page)
    return [folder / name for name in CLAIM_FILES]


def of_folder(folder: Path, claims: Sequence[Claim], thresholds: Thresholds) -> tuple[pd.DataFrame, str]:
    """Test the claims on the tables in `folder`: verdicts, as a table and as a Markdown page (``CLAIM_FILES``)."""
    cells = seed_means.read_cells(folder / "cells.csv")
    replicas = read_table(folder / "replicas.csv", ["replica"], numeric=[*CELL, "test_error"])
    pairs = read_table(folder / "pairs.csv", ["pair"], numeric=[*CELL, "lmc", "cka_softmax"])
    table = evaluate(claims, cells, replicas, pairs, thresholds)
    units = (seed_means.setting_of_table(cells) or Setting).claim_units
    return table, to_markdown(table, str(cells["study"].iloc[0]), units)


def to_markdown(table: pd.DataFrame, study: str, units: str = Setting.claim_units) -> str:
    """Format the verdicts as a Markdown page: a legend, with the units of the differences, and `table_lines`."""
    counts = table["outcome"].value_counts().reindex(OUTCOMES, fill_value=0)
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    lines = [
        f"# Claims stated beforehand: {study}",
        "",
        f"{len(table)} claims: {shown}. Each difference with its two one-sided 95 % bounds; {units}",
        "*Outcome* is the verdict over dense seeds, on newly trained dense networks; *for these networks* counts the",
        "spread between replicas alone, for the dense networks that were trained. *Not tested*: both sides are the",
        "same cells in every dense seed.",
        "",
        *table_lines(table),
    ]
    return "\n".join(lines) + "\n"


def table_lines(table: pd.DataFrame) -> list[str]:
    """Format the verdicts as the lines of a Markdown table."""
    rows = []
    for row in table.itertuples(index=False):
        limit = f" ({amount(row.measure, row.limit)})" if row.limit else ""
        alone = _interval(row.measure, row.estimate, row.replica_lower, row.replica_upper)
        rows.append(
            (
                f"`{row.claim}`: {row.statement}",
                row.expected + limit,
                _interval(row.measure, row.estimate, row.lower, row.upper),
                "same cells" if row.outcome == NOT_TESTED else f"{row.agreeing} of {row.seeds}",
                f"**{row.outcome}**" + (f"; {row.note}" if _text(row.note) else ""),
                _alone(row, alone),
            )
        )
    return markdown.table(_COLUMNS, rows)


def _alone(row: tuple, interval: str) -> str:
    if row.outcome == NOT_TESTED:
        return NOT_TESTED
    return f"{interval}: {row.these_networks}" if _text(row.these_networks) else "spread unknown"


def _interval(measure: str, estimate: float, lower: float, upper: float) -> str:
    if not np.isfinite(estimate):
        return "not run"
    if not np.isfinite(lower):
        return amount(measure, estimate)
    return f"{amount(measure, estimate)} [{amount(measure, lower)}, {amount(measure, upper)}]"


def _text(value: object) -> bool:
    """Whether a field holds text (empty fields are NaN in a table read from a file)."""
    return isinstance(value, str) and bool(value)
