"""Write the scorecard as Markdown and CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from three_regime.analysis.references import Reference
from three_regime.analysis.scorecard import DIFFERENCE, KEYS, NO_PUBLISHED_NUMBERS, REGRET, Scorecard, amount
from three_regime.study.outputs import SCORECARD_FILES
from three_regime.system import markdown
from three_regime.system.files import write_csv, write_text


def write(folder: Path, scorecard: Scorecard) -> None:
    """Write the files of ``SCORECARD_FILES`` in `folder`."""
    headline, cells, page = contents(scorecard)
    write_csv(folder / SCORECARD_FILES[0], headline)
    write_csv(folder / SCORECARD_FILES[1], cells)
    write_text(folder / SCORECARD_FILES[2], page)


def contents(scorecard: Scorecard) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The contents of ``SCORECARD_FILES``."""
    return scorecard.headline, scorecard.cells, to_markdown(scorecard)


def to_markdown(scorecard: Scorecard) -> str:
    """Format the scorecard as Markdown: headline numbers, obtained cells (errors and LMC in percent), cells not run."""
    lines = ["# Scorecard", "", scorecard.reference.about, ""]
    for study, part in scorecard.headline.groupby("study", sort=False):
        rows = [
            (row.measure, row.panel, _value_text(row), row.beside, row.note)
            for row in part.itertuples(index=False)
            if row.measure != NO_PUBLISHED_NUMBERS
        ]
        lines += [f"## {markdown.escaped(study)}", ""]
        if (part["measure"] == NO_PUBLISHED_NUMBERS).any():
            lines += ["There are no published numbers for this study: its cells are not scored.", ""]
        if rows:
            lines += markdown.table(("measure", "panel", "value", "compare with", "note"), rows)
        lines.append("")
    lines += _cells_in_markdown(scorecard.cells, scorecard.reference)
    return "\n".join(lines).rstrip() + "\n"


def _cells_in_markdown(cells: pd.DataFrame, reference: Reference) -> list[str]:
    run = cells[cells["status"] != "not run"]
    lines: list[str] = []
    if len(run):
        lines += [
            "## Cells",
            "",
            f"{reference.word.capitalize()} → obtained ± half-width of the 95 % interval (no ±: one dense seed)."
            " Errors and LMC in percent.",
            f"`*`: the interval misses the {reference.bounds}."
            " `†`: imported. `‡`: the spread is that of one dense seed,",
            "and the mean says little. A normalised error is relative to the best temperature that was run, and judged",
            "only where a whole density column was.",
            "",
        ]
        present = [metric for metric in reference.panels if (run["panel"] == metric).any()]
        rows = []
        for (density, temperature), part in run.groupby(["density", "temperature"]):
            by_metric = {row.panel: row for row in part.itertuples(index=False)}
            texts = [_cell_text(by_metric[metric]) if metric in by_metric else "not run" for metric in present]
            rows.append((f"{100 * density:g} %", f"{temperature:g}", *texts))
        metrics = (metric.replace("_", " ") for metric in present)
        lines += [*markdown.table(("density", "temperature", *metrics), rows), ""]
    keys = cells.drop_duplicates(KEYS)[KEYS]
    missing = keys.merge(run.drop_duplicates(KEYS)[KEYS], on=KEYS, how="left", indicator=True)
    missing = missing[missing["_merge"] == "left_only"]
    if len(missing):
        lines += ["## Not run", "", f"{len(missing)} of {len(keys)} {reference.word} cells:", ""]
        for density, part in missing.groupby("density"):
            temperatures = ", ".join(f"{value:g}" for value in sorted(part["temperature"]))
            lines.append(f"- density {100 * density:g} %: temperatures {temperatures}")
    return lines


def _cell_text(row: tuple) -> str:
    scale, digits = (1.0, 4) if row.panel.startswith("cka") else (100.0, 2)
    half = f" ± {scale * row.ci95:.{digits}f}" if np.isfinite(row.ci95) else ""
    outside = "*" if row.within is not pd.NA and not row.within else ""
    mark = outside + ("†" if row.status == "imported" else "") + ("‡" if np.isfinite(row.one_seed) else "")
    return f"{scale * row.published:.{digits}f} → {scale * row.obtained:.{digits}f}{half}{mark}"


def _value_text(row: tuple) -> str:
    if not np.isfinite(row.value):
        return ""
    if row.measure in (DIFFERENCE, REGRET):
        return amount(row.panel, row.value)
    return f"{row.value:g}" if float(row.value).is_integer() else f"{row.value:.3f}"
