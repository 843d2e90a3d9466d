"""Plan results again that are up to date by Snakemake's records but stale by fingerprint.

Records are wrong after ``--touch``, after files were overwritten by copies, after an edit was undone that jobs had
used, for a study renamed with its folder, and for files damaged since. A result copied beside recorded ones of its job
has none, and Snakemake believes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from three_regime.study.damage import LONG_AGO_NS
from three_regime.study.grid import Study
from three_regime.study.products import job_place
from three_regime.study.table_sources import tables_hold
from three_regime.study.verdicts import Finding, Verdict, judge
from three_regime.workflow import snakemake_lock
from three_regime.workflow.rule_parts import settings_fingerprint
from three_regime.workflow.snakemake_records import ADOPTING, begun, record_of, set_back

_SAME_TIME_S = 0.01


def plan_again(studies: Iterable[Study]) -> list[str]:
    """Make Snakemake compute wrongly recorded results again; return one line for each reason.

    Weights are read only if the file is newer than its record. Nothing is done while another run is in progress.
    """
    said: list[str] = []
    if ADOPTING in os.environ:
        return said
    if snakemake_lock.is_locked():  # do not interfere with another run
        return ["another run has locked this folder: results were not checked against their fingerprints"]
    for study in studies:
        if not study.folder.is_dir():
            continue
        findings = judge(study, verify=_changed_since)
        wrong = [finding for finding in findings if _is_wrong(finding) and _believed(study, finding)]
        for finding in wrong:
            _set_back(finding.product.outputs)
        reasons: dict[str, list[Finding]] = {}
        for finding in wrong:
            reasons.setdefault(f"{finding.product.stage}, {finding.verdict}, {finding.reason}", []).append(finding)
        for reason, group in reasons.items():
            more = f" and {len(group) - 1} more" if len(group) > 1 else ""
            said.append(f"to be recomputed: {group[0].product.outputs[0]}{more}: {reason}")
        if reason := _wrong_tables(study, findings):
            _set_back(study.table(name) for name in study.cell_tables)
            said.append(f"to be rebuilt: the tables of {study.name}: {reason}")
    return said


def _set_back(paths: Iterable[Path]) -> None:
    with contextlib.suppress(OSError):  # another user's results; a run that must write them will report it
        set_back(paths)


def _wrong_tables(study: Study, findings: Sequence[Finding]) -> str:
    """Why existing tables must be rebuilt although Snakemake would not; empty if they need not be."""
    cells = study.table("cells")
    if not cells.exists() or cells.stat().st_mtime_ns <= LONG_AGO_NS:
        return ""
    # Snakemake makes a file again only for what is to be made of it, so a missing result must outdate the tables. Lost
    # weights are made again when something is to be computed from them.
    results = (finding.product.outputs[0] for finding in findings if finding.verdict is Verdict.MISSING)
    if missing := [path for path in results if not path.exists()]:
        return f"{missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''} must be computed first"
    if not all(each.done for each in findings):
        return ""
    # If the study was made smaller, Snakemake itself notices that they have fewer inputs.
    return "" if tables_hold(study, findings) else "they were not built from these results under this name"


def _is_wrong(finding: Finding) -> bool:
    return finding.verdict in (Verdict.STALE, Verdict.DAMAGED)


def _believed(study: Study, finding: Finding) -> bool:
    """Whether Snakemake considers the files made with the current settings.

    Results that are stale only because of an input follow when that has been recomputed.
    """
    product = finding.product
    there = [path for path in product.outputs if path.exists()]
    if not there or any(begun(path) for path in there) or finding.reason.endswith("is not up to date"):
        return False
    if finding.verdict is Verdict.DAMAGED or there[0].stat().st_mtime_ns <= LONG_AGO_NS:
        return True
    record = record_of(there[0])
    if record is None:  # copied beside recorded results of its job
        return True
    _, temperature, _ = job_place(study, product)
    recorded = record.get("params") or []
    return repr(settings_fingerprint(study, product.stage, temperature)) in recorded


def _changed_since(path: Path) -> bool:
    """Whether a file is newer than Snakemake's record of it, so its content must be checked."""
    ended = (record_of(path) or {}).get("endtime")
    return isinstance(ended, int | float) and path.stat().st_mtime > ended + _SAME_TIME_S
