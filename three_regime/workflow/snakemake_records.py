"""Results without a Snakemake record: copied from elsewhere, or made without Snakemake.

Snakemake detects changed settings from its record of a file. Without a record, any sufficiently new file counts as up
to date. So results that are stale by fingerprint are refused until they are adopted.
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
"""Environment variable set while Snakemake records adopted results."""

RECORDS = SNAKEMAKE_FOLDER / "metadata"
"""Folder of Snakemake's (version 9) records of files."""

_BEGUN = SNAKEMAKE_FOLDER / "incomplete"


def unrecorded(studies: Iterable[Study]) -> list[Study]:
    """Studies with results that exist and that Snakemake has neither recorded nor begun."""
    return [study for study in studies if any(path.exists() and not _known(path) for path in _first_outputs(study))]


def stale_without_record(studies: Iterable[Study]) -> str:
    """Message about results that Snakemake would wrongly consider up to date; empty if there are none."""
    if ADOPTING in os.environ:
        return ""
    for study in unrecorded(studies):
        for finding in judge(study):
            path = finding.product.outputs[0]
            wrong = finding.verdict in (Verdict.STALE, Verdict.DAMAGED)
            if wrong and not _known(path) and path.stat().st_mtime_ns > LONG_AGO_NS:
                return (
                    f"Snakemake has no record of {path}, and it is {finding.verdict}: {finding.reason}. Run `python -m"
                    " three_regime adopt` with the same --configfile first: it keeps valid results and plans the rest"
                )
    return ""


def set_back(paths: Iterable[Path]) -> None:
    """Make Snakemake compute files again: set their time before everything else, and remove their records.

    With a record, Snakemake would find small inputs unchanged by content, whatever their times.
    """
    for path in paths:
        if path.exists():
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS), follow_symlinks=False)
        _place(RECORDS, path).unlink(missing_ok=True)


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
    """Snakemake's (version 9) record of a file: ``params``, ``input_checksums``, …; None if there is none."""
    try:
        return read_json(_place(RECORDS, path))
    except UserError:
        return None


def _place(folder: Path, path: Path) -> Path:
    """Where Snakemake (version 9) records a file: below folders, if its encoded path is longer than a name may be."""
    name = urlsafe_b64encode(str(path).encode()).decode()
    most = (os.pathconf(folder, "PC_NAME_MAX") if folder.is_dir() else 255) - 1
    *above, last = [name[at : at + most] for at in range(0, len(name), most)]
    return folder.joinpath(*(f"@{part}" for part in above), last)


def begun(path: Path) -> bool:
    """Whether Snakemake has begun but not finished the file."""
    return _place(_BEGUN, path).exists()


def _known(path: Path) -> bool:
    """Whether Snakemake (version 9) has recorded the file or begun to make it."""
    return any(_place(folder, path).exists() for folder in (RECORDS, _BEGUN))
