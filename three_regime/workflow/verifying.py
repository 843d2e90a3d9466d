"""The `verify` command: check every file of the planned studies, and report problems without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from three_regime.analysis.outdated import outdated_of, outdated_over_all
from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.figures.outdated import outdated_explorer, outdated_figures
from three_regime.preparation.prepare import is_intact, is_prepared
from three_regime.study.grid import Study, planned
from three_regime.study.load_grids import LoadGrid, load_grids
from three_regime.study.outputs import REGIME_TABLES
from three_regime.study.table_sources import tables_agree
from three_regime.study.verdicts import Verdict, judge
from three_regime.system.files import read_table

_PROBLEMS = (Verdict.STALE, Verdict.DAMAGED, Verdict.UNKNOWN)


@dataclass(frozen=True)
class Problem:
    """A problem: the file, its verdict (see `verdicts.Verdict`) and the reason."""

    file: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Verified:
    """Outcome of `verify`.

    Attributes
    ----------
    read
        Number of results, data files and tables read.
    missing
        Number of results that do not exist yet, which is not a problem.
    """

    read: int
    missing: int
    problems: list[Problem]


def verify(config: Config) -> Verified:
    """Check every result, prepared data file and table of the planned studies against their digests, with tensors.

    Results are compared with the current settings, and tables with the results they were built from.
    """
    problems: list[Problem] = []
    read = missing = 0
    data: dict[Path, Study] = {}
    for study in planned(config):
        data.setdefault(study.prepared, study)
        findings = judge(study, verify=True)
        missing += sum(finding.verdict is Verdict.MISSING for finding in findings)
        read += sum(finding.verdict is not Verdict.MISSING for finding in findings)
        problems += [
            Problem(str(finding.product.outputs[0]), finding.verdict.value, finding.reason)
            for finding in findings
            if finding.verdict in _PROBLEMS
        ]
        tables = [study.table(name) for name in (*study.cell_tables, *REGIME_TABLES)]
        read += sum(path.exists() for path in tables)
        problems += _damaged(tables)
        cells = study.table("cells")
        if cells.exists() and not tables_agree(study, findings):
            reason = "the tables were not built from exactly these results, under this name and with these settings"
            problems.append(Problem(str(cells), Verdict.STALE.value, reason))
        elif cells.exists():
            problems += _outdated(outdated_of, study)
            problems += _outdated(outdated_figures, study)
    for grid in load_grids(config):
        tables = [grid.folder / f"{name}.csv" for name in (*grid.cell_tables, *REGIME_TABLES)]
        read += sum(path.exists() for path in tables)
        problems += _damaged(tables)
        if tables[0].exists():
            problems += _outdated(outdated_of, grid)
            problems += _outdated(outdated_figures, grid)
    problems += _outdated(outdated_over_all, config)
    problems += _outdated(outdated_explorer, config)
    for path, study in data.items():
        if path.exists():
            read += 1
            if not is_intact(study.config.dataset, study.data):
                verdict = Verdict.DAMAGED if is_prepared(study.config.dataset, study.data) else Verdict.STALE
                reason = "its content does not match its digests, or it was prepared with other settings"
                problems.append(Problem(str(path), verdict.value, reason))
    return Verified(read, missing, problems)


def _damaged(tables: list[Path]) -> Iterator[Problem]:
    for path in tables:
        if not path.exists() or not path.read_bytes().strip():  # an empty table
            continue
        try:
            read_table(path)
        except UserError as error:
            yield Problem(str(path), Verdict.DAMAGED.value, str(error).removeprefix(f"{path} "))


def _outdated(find: Callable[[Any], list[Path]], of: Study | LoadGrid | Config) -> Iterator[Problem]:
    """Tables and figures that do not follow from the tables and the settings; nothing where one cannot be read."""
    reason = "it does not follow from the tables with these settings"
    try:
        yield from (Problem(str(path), Verdict.STALE.value, reason) for path in find(of))
    except UserError:  # reported as damaged
        return


def render(verified: Verified) -> str:
    """Format as text: one line per problem, then the counts."""
    lines = [f"{each.file}: {each.verdict}: {each.reason}" for each in verified.problems]
    missing = f", {verified.missing} results do not exist yet" if verified.missing else ""
    what = f"{len(verified.problems)} with problems" if verified.problems else "no problems"
    lines.append(f"{verified.read} results, tables and data files read: {what}{missing}")
    if not verified.read and not verified.missing:
        lines = ["nothing to verify: the configuration runs no study (`run` is empty)"]
    if verified.problems:
        lines.append("run the workflow again: damaged and stale results are set aside and recomputed")
    return "\n".join(lines) + "\n"
