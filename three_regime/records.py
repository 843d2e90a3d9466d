"""Results that Snakemake has no record of: copied from elsewhere, or made without it. No torch.

Snakemake notices changed settings by what it recorded when it made a file. Without a record it would take any file
that is young enough for up to date. Fingerprints know better: what they call stale is refused until it is adopted.
"""

from __future__ import annotations

import csv
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from three_regime.errors import UserError
from three_regime.stages import STAGES, pack
from three_regime.storage import read_json
from three_regime.study import Study
from three_regime.survey import Finding, Verdict, refuse_unfit, survey

LONG_AGO_NS = 10**9
"""Time given to what must be made again: one second into 1970, before every input."""

ADOPTING = "THREE_REGIME_ADOPTING"
"""Environment variable under which Snakemake is called to record what has been adopted."""

CHECKOUT = Path(__file__).resolve().parents[1]
"""The folder of the Snakefile, when it is not the present one."""

_FOLDER = Path(".snakemake")
_LONGEST_NAME = 250
_NO_TABLE = (OSError, KeyError, ValueError, TypeError, csv.Error)


def unrecorded(owners: Iterable[Study]) -> list[Study]:
    """The studies with a job whose results are there and that Snakemake has neither recorded nor begun."""
    return [owner for owner in owners if any(path.exists() and not _known(path) for path in _first_outputs(owner))]


def stale_without_record(owners: Iterable[Study]) -> str:
    """One sentence on results that Snakemake would take for up to date and that are not; empty when there are none."""
    if ADOPTING in os.environ:
        return ""
    for owner in unrecorded(owners):
        for finding in survey(owner):
            path = finding.product.outputs[0]
            wrong = finding.verdict in (Verdict.STALE, Verdict.DAMAGED)
            if wrong and not _known(path) and path.stat().st_mtime_ns > LONG_AGO_NS:
                return (
                    f"Snakemake has no record of {path}, and it is {finding.verdict}: {finding.reason}. Run `python -m"
                    " three_regime adopt` with the same --configfile first: it keeps what is right and plans the rest"
                )
    return ""


def set_back(paths: Iterable[Path]) -> None:
    """Let Snakemake make files again: a time before everything, and no record.

    With its record it would find the content of small inputs unchanged, whatever the times.
    """
    for path in paths:
        if path.exists():
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS), follow_symlinks=False)
        if len(_name(path)) <= _LONGEST_NAME:
            (_FOLDER / "metadata" / _name(path)).unlink(missing_ok=True)


def tables_agree(owner: Study, findings: Iterable[Finding]) -> bool:
    """Whether the tables are of this study and were gathered from just these results, all of them right."""
    findings = list(findings)
    right = all(finding.done or finding.verdict is Verdict.MISSING for finding in findings)
    return right and tables_hold(owner, findings) and len(_gathered(owner)) == sum(each.done for each in findings)


def tables_hold(owner: Study, findings: Iterable[Finding]) -> bool:
    """Whether the tables are of this study and hold these results, as far as they are there, by their fingerprints."""
    stored = {finding.fingerprint for finding in findings if finding.fingerprint}
    try:
        names = set(_column(owner.folder / "cells.csv", "study"))
    except _NO_TABLE:
        return False
    return names == {owner.name} and stored <= set(_gathered(owner))


def _gathered(owner: Study) -> list[str]:
    """Fingerprints of the results that the tables were made from; none where there are no tables."""
    try:
        return _column(owner.folder / "provenance.csv", "fingerprint")
    except _NO_TABLE:
        return []


def refuse_other_tables(owner: Study) -> None:
    """Refuse tables that were not made from the results that are there, or under another name.

    Results that are there no more are no reason.

    Raises
    ------
    UserError
        Naming the table and what makes it anew; or what `survey.refuse_unfit` says of the results.
    """
    refuse_unfit(owner)
    if not tables_hold(owner, survey(owner)):
        raise UserError(
            f"{owner.folder / 'cells.csv'} was made from other results than are there now, or for another study: run"
            " `snakemake tables` first"
        )


def _column(path: Path, name: str) -> list[str]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return [row[name] for row in csv.DictReader(file)]


def base_file() -> Path:
    """``config.yaml`` of this folder, or else of the checkout."""
    here = Path("config.yaml")
    return here if here.exists() else CHECKOUT / here


def configfiles(arguments: Sequence[str]) -> list[Path] | None:
    """The configuration files that Snakemake's arguments name, ``config.yaml`` first; None when they change more."""
    if "--config" in arguments or "-C" in arguments:
        return None
    found = [base_file()]
    taking = False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument.startswith("-"):
            taking = name in ("--configfile", "--configfiles")
            found += [Path(value)] if taking and value else []
        elif taking:
            found.append(Path(argument))
    return found


def _first_outputs(owner: Study) -> Iterator[Path]:
    """One result file of each job."""
    for seed in owner.config.dense_seeds:
        for temperature in owner.temperatures:
            if not owner.at(seed, temperature).is_dir():
                continue
            densities = owner.config.densities[: 1 if "density" in owner.config.pack else None]
            yield pack(owner, "dense", seed, temperature)[0].outputs[0]
            for stage in list(STAGES)[1:]:
                for density in densities:
                    yield from (product.outputs[0] for product in pack(owner, stage, seed, temperature, density)[:1])


def record_of(path: Path) -> dict[str, Any] | None:
    """What Snakemake (version 9) recorded when it made a file: ``params``, ``input_checksums``, …; None without one."""
    name = _name(path)
    if len(name) > _LONGEST_NAME:
        return None
    try:
        return read_json(_FOLDER / "metadata" / name)
    except UserError:
        return None


def _name(path: Path) -> str:
    return urlsafe_b64encode(str(path).encode()).decode()


def begun(path: Path) -> bool:
    """Whether Snakemake has begun to make the file and not ended."""
    name = _name(path)
    return len(name) <= _LONGEST_NAME and (_FOLDER / "incomplete" / name).exists()


def _known(path: Path) -> bool:
    """Whether Snakemake has recorded the file, or begun to make it, in its folder of this version (9)."""
    name = _name(path)
    if len(name) > _LONGEST_NAME:
        return True
    return any((_FOLDER / kind / name).exists() for kind in ("metadata", "incomplete"))
