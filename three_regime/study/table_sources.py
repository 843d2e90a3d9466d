"""Check that tables were built from the current results, under the study's current name."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from three_regime.errors import UserError
from three_regime.study.grid import Study
from three_regime.study.verdicts import Finding, Verdict, judge, refuse_unfit

_NO_TABLE = (OSError, KeyError, ValueError, TypeError, csv.Error)


def tables_agree(study: Study, findings: Iterable[Finding]) -> bool:
    """Whether the tables belong to this study and were built from exactly these results, all of them up to date."""
    findings = list(findings)
    right = all(finding.done or finding.verdict is Verdict.MISSING for finding in findings)
    return right and tables_hold(study, findings) and len(_gathered(study)) == sum(each.done for each in findings)


def tables_hold(study: Study, findings: Iterable[Finding]) -> bool:
    """Whether the tables belong to this study and hold all of these results that exist, by fingerprint."""
    stored = {finding.fingerprint for finding in findings if finding.fingerprint}
    try:
        names = set(_column(study.table("cells"), "study"))
    except _NO_TABLE:
        return False
    return names == {study.name} and stored <= set(_gathered(study))


def _gathered(study: Study) -> list[str]:
    """Fingerprints of the results that the tables were built from; empty if there are no tables."""
    try:
        return _column(study.table("provenance"), "fingerprint")
    except _NO_TABLE:
        return []


def refuse_other_tables(study: Study) -> None:
    """Raise if the tables were not built from the current results, or under another study name.

    Results that no longer exist are ignored.

    Raises
    ------
    UserError
        Naming the table and how to rebuild it; or from `verdicts.refuse_unfit`.
    """
    refuse_unfit(study)
    if not tables_hold(study, judge(study)):
        raise UserError(
            f"{study.table('cells')} was built from other results than the current ones, or for another study: run"
            " `snakemake tables` with the same --configfile first"
        )


def _column(path: Path, name: str) -> list[str]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return [row[name] for row in csv.DictReader(file)]
