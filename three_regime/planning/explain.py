"""Explain why a target would be computed: changed settings (old and new value), missing or damaged files.

For the reasons of tables, figures and the report, use ``snakemake --dry-run``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.jobs.discarding import discard_records
from three_regime.planning.plan import ALL_STUDIES, DATA, wanted
from three_regime.preparation.prepare import is_prepared
from three_regime.study.grid import Study, planned, study_named
from three_regime.study.load_grids import load_grids
from three_regime.study.outputs import (
    CELL_TABLES,
    CLAIM_FILES,
    MEASURE_TABLES,
    OVERALL_FILES,
    PUBLISHED,
    REGIME_TABLES,
    SETTINGS_FILE,
)
from three_regime.study.stages import STAGES
from three_regime.study.verdicts import Finding, chain_to, judge

_TABLE_FILES = frozenset((*(f"{name}.csv" for name in CELL_TABLES + MEASURE_TABLES + REGIME_TABLES), *CLAIM_FILES))

SHOWN = 20
"""Number of single products listed; the rest is counted."""


def explain(config: Config, target: str | None = None) -> list[Finding]:
    """Findings on the results that `target` includes, done or not, in the order of computation.

    Parameters
    ----------
    target
        A result file (with everything upstream), a table, figure or report (with every result of its studies), or a
        target of `three_regime.planning.plan`: a collection (``dense``, ``landscape``, ``tables``, …), a collection of
        one study (``<study>_retrained``), a stage, or a study; None: everything. A collection or stage includes only
        its own results, not those upstream.

    Raises
    ------
    UserError
        When the target is none of these.
    """
    path = Path(os.path.relpath(target)) if target else None  # results are named from this folder
    if path and (studies := studies_behind(config, path)) is not None:
        return [finding for study in studies for finding in judge(study)]
    try:
        chosen = wanted(config, [target] if target else [])
    except UserError as error:
        findings = [finding for study in planned(config) for finding in judge(study)]
        return _behind(findings, path, error)
    return [
        finding
        for name, stages in chosen.items()
        if name != ALL_STUDIES and not stages.isdisjoint(STAGES)
        for finding in judge(study_named(config, name))
        if finding.product.stage in stages
    ]


def _behind(findings: Sequence[Finding], path: Path, unknown: UserError) -> list[Finding]:
    """The product that holds `path` and every product upstream of it, upstream first."""
    chain = chain_to(path, findings, lambda each: (each.product.outputs, each.product.inputs.values()))
    if not chain:
        raise UserError(f"{path} is not a result, table or figure of the planned studies; {unknown}") from unknown
    return chain


def studies_behind(config: Config, path: Path) -> list[Study] | None:
    """The studies behind a table, figure, report or record; None when `path` is none of these."""
    root = Path(config.results)
    for study in planned(config):
        if path.parent == study.folder and path.name in _TABLE_FILES:
            return [study]
        if path.parent == study.folder / "figures" and path.stem in study.figures:
            return [study]
        if str(path) in discard_records(study):
            return [study]
    for grid in load_grids(config):
        if path.parent in (grid.folder, grid.folder / "figures"):
            return list(grid.studies.values())
    if path.is_relative_to(root / PUBLISHED) or path == root / SETTINGS_FILE:
        return []
    over_all = [root / name for name in ("report.html", *OVERALL_FILES)]
    return planned(config) if path in over_all else None


def unprepared(config: Config, target: str | None) -> list[str]:
    """One line for each data set that `target` includes and that is not prepared, or not for these settings.

    Only `data` includes them; None means `data`.
    """
    try:
        chosen = wanted(config, [target] if target else ["data"])
    except UserError:
        return []
    studies = [study_named(config, name) for name, stages in chosen.items() if DATA in stages and name != ALL_STUDIES]
    return [
        f"{study.prepared} would be prepared: it is missing, damaged, or from another version or other settings"
        for study in {study.prepared: study for study in studies}.values()
        if not is_prepared(study.config.dataset, study.data)
    ]


def render(findings: Sequence[Finding], unprepared: Sequence[str] = ()) -> str:
    """Format as text: data to prepare, reasons (most common first), then products; one line if all is done."""
    said = [*unprepared, *(_of_results(findings) if findings else [])]
    return "\n".join(said or ["nothing would be computed"]) + "\n"


def _of_results(findings: Sequence[Finding]) -> list[str]:
    pending = [finding for finding in findings if not finding.done]
    if not pending:
        return [f"nothing would be computed: all {len(findings)} results are up to date"]
    told = [f"{len(pending)} of {len(findings)} results would be computed"]
    reasons = Counter((finding.product.stage, finding.verdict.value, finding.reason) for finding in pending)
    for (stage, verdict, reason), count in reasons.most_common():
        told.append(f"  {count:5d} x {stage}: {verdict}, {reason}")
    told += [f"  {finding.product.outputs[-1]}: {finding.verdict.value}" for finding in pending[:SHOWN]]
    if len(pending) > SHOWN:
        told.append(f"  and {len(pending) - SHOWN} more")
    return told
