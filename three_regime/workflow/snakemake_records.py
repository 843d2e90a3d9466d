"""Results that Snakemake has no record of: copied from elsewhere, or made without it. No torch.

Snakemake notices changed settings by what it recorded when it made a file. Without a record it would take any file
that is young enough for up to date. Fingerprints know better: what they call stale is refused until it is adopted.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from three_regime.errors import UserError
from three_regime.study.damage import LONG_AGO_NS
from three_regime.study.grid import Study
from three_regime.study.products import pack
from three_regime.study.stages import STAGES
from three_regime.study.verdicts import Verdict, judge
from three_regime.system.files import read_json
from three_regime.system.places import SNAKEMAKE_FOLDER

ADOPTING = "THREE_REGIME_ADOPTING"
"""Environment variable under which Snakemake is called to record what has been adopted."""

RECORDS = SNAKEMAKE_FOLDER / "metadata"
"""Snakemake's (version 9) record of each file that it has made."""

_BEGUN = SNAKEMAKE_FOLDER / "incomplete"
_LONGEST_NAME = 250


def unrecorded(studies: Iterable[Study]) -> list[Study]:
    """The studies with a job whose results are there and that Snakemake has neither recorded nor begun."""
    return [study for study in studies if any(path.exists() and not _known(path) for path in _first_outputs(study))]


def stale_without_record(studies: Iterable[Study]) -> str:
    """One sentence on results that Snakemake would take for up to date and that are not; empty when there are none."""
    if ADOPTING in os.environ:
        return ""
    for study in unrecorded(studies):
        for finding in judge(study):
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
            (RECORDS / _name(path)).unlink(missing_ok=True)


def _first_outputs(study: Study) -> Iterator[Path]:
    """One result file of each job."""
    densities = study.config.densities[: 1 if study.job_spans_densities else None]
    for place in study.seeds_and_temperatures:
        if not study.at(*place).is_dir():
            continue
        yield pack(study, "dense", *place)[0].outputs[0]
        for stage in list(STAGES)[1:]:
            for density in densities:
                yield from (product.outputs[0] for product in pack(study, stage, *place, density)[:1])


def record_of(path: Path) -> dict[str, Any] | None:
    """What Snakemake (version 9) recorded when it made a file: ``params``, ``input_checksums``, …; None without one."""
    name = _name(path)
    if len(name) > _LONGEST_NAME:
        return None
    try:
        return read_json(RECORDS / name)
    except UserError:
        return None


def _name(path: Path) -> str:
    return urlsafe_b64encode(str(path).encode()).decode()


def begun(path: Path) -> bool:
    """Whether Snakemake has begun to make the file and not ended."""
    name = _name(path)
    return len(name) <= _LONGEST_NAME and (_BEGUN / name).exists()


def _known(path: Path) -> bool:
    """Whether Snakemake has recorded the file, or begun to make it, in its folder of this version (9)."""
    name = _name(path)
    if len(name) > _LONGEST_NAME:
        return True
    return any((folder / name).exists() for folder in (RECORDS, _BEGUN))
