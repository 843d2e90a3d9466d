"""Adopt results copied from another machine, by their fingerprints.

A copy has new modification times (``cp -r``) or no Snakemake records (``.snakemake`` is not copied). Snakemake then
plans everything again or, worse, does not notice changed settings. So results with matching fingerprints get ordered
times and a record; others get a time older than any other file, so their jobs are planned and compute what is stale.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.jobs.discarding import is_discarded, record_file
from three_regime.planning.plan import Job, jobs_of
from three_regime.preparation.prepare import is_intact
from three_regime.study.fingerprints import recorded_digest
from three_regime.study.grid import Study, planned
from three_regime.study.outputs import REGIME_TABLES
from three_regime.study.products import discarded_stages, pack, products_of
from three_regime.study.stages import STAGES
from three_regime.study.table_sources import tables_agree
from three_regime.study.verdicts import Finding, Verdict, judge
from three_regime.system.file_times import put_in_order
from three_regime.system.interruption import signals_raise
from three_regime.system.places import CHECKOUT
from three_regime.workflow.arguments import base_file
from three_regime.workflow.running import snakemake_program
from three_regime.workflow.snakemake_records import ADOPTING, RECORDS, set_back

log = logging.getLogger(__name__)

_TARGETS_A_CALL = 2000


@dataclass(frozen=True)
class Adoption:
    """Outcome of `adopt`.

    Attributes
    ----------
    findings
        Study → verdict on each product.
    unprepared
        Prepared data files that are missing, out of date or damaged.
    mended
        Number of files whose times were put in order.
    remade_tables
        Studies whose tables and figures will be rebuilt.
    recorded
        Number of jobs recorded for Snakemake.
    """

    findings: dict[str, list[Finding]]
    unprepared: list[Path]
    mended: int
    remade_tables: list[str]
    recorded: int


def adopt(config: Config, configfiles: Sequence[Path], *, dry_run: bool = False) -> Adoption:
    """Judge every result of the planned studies, and bring Snakemake's records in line with the verdicts.

    Parameters
    ----------
    configfiles
        Files that `config` was read from, for Snakemake; the first is ``config.yaml`` in the working directory.
    dry_run
        Only judge; change nothing but what a killed adoption left behind.

    Raises
    ------
    UserError
        When Snakemake is not installed or cannot record the adopted results.
    """
    studies = planned(config)
    for study in studies:
        _remove_stand_ins(study)
    findings = {study.name: judge(study, verify=True) for study in studies}
    data = {study.prepared: is_intact(study.config.dataset, study.data) for study in studies}
    unprepared = [path for path, good in data.items() if not good]
    if dry_run:
        return Adoption(findings, unprepared, 0, [], 0)
    fresh = not RECORDS.is_dir()
    mended = 0
    records: list[Path] = []
    remade = []
    recorded = 0
    for study in studies:
        if data[study.prepared]:
            raw = (study.data / "raw" / study.config.dataset.name).rglob("*")
            mended += put_in_order((path for path in raw if path.is_file()), [study.prepared])
        jobs = jobs_of(study, findings[study.name])
        for finding in findings[study.name]:
            if finding.done:
                mended += put_in_order(finding.product.inputs.values(), finding.product.outputs)
            else:
                set_back(finding.product.outputs)
        whole = _recordable(jobs) if study.prepared.exists() else []  # Snakemake would make the data first
        recorded += len(whole)
        records += [job.findings[0].product.outputs[0] for job in whole]
        for record in _discards(study, whole):
            mended += put_in_order(record.parent.rglob("*.json"), [record])
            records.append(record)
        tables = [study.table(name) for name in (*study.cell_tables, *REGIME_TABLES)]
        if (fresh or not tables_agree(study, findings[study.name])) and any(path.exists() for path in tables):
            set_back(tables)
            remade.append(study.name)
    if records:
        done = [each for found in findings.values() for each in found if each.done]
        kept = [path for each in done for path in each.product.outputs if path.exists()]
        absent = [path for each in done for path in each.product.outputs if not os.path.lexists(path)]
        with _standing_in(absent):
            _record(records, [*kept, *records], configfiles)
    return Adoption(findings, unprepared, mended, remade, recorded)


def _recordable(jobs: list[Job]) -> list[Job]:
    """Jobs that are completely done, with inputs that exist and come from such jobs.

    Snakemake's ``--touch`` fails on others, because it would have to touch missing files.
    """
    whole: list[Job] = []
    made: set[Path] = set()
    known = {path for job in jobs for finding in job.findings for path in finding.product.outputs}
    gone = {finding.product.outputs[-1] for job in jobs for finding in job.findings if finding.discarded}
    for job in jobs:
        inputs = {path for finding in job.findings for path in finding.product.inputs.values()}
        if not job.to_compute and all(
            (path.exists() or path in gone) and (path in made or path not in known) for path in inputs
        ):
            whole.append(job)
            made |= {path for finding in job.findings for path in finding.product.outputs}
    return whole


def _discards(study: Study, whole: list[Job]) -> list[Path]:
    """Records of discarded weights, for temperatures at which every job is in `whole`."""
    if study.config.keep == "all":
        return []
    made = {path for job in whole for finding in job.findings for path in finding.product.outputs}
    return [
        record_file(study, *place)
        for place in study.seeds_and_temperatures
        if is_discarded(study, *place)
        and all(product.outputs[0] in made for stage in STAGES for product in pack(study, stage, *place))
    ]


@contextlib.contextmanager
def _standing_in(absent: Sequence[Path]) -> Iterator[None]:
    """Put empty files in place of discarded weights, since Snakemake records a job only if its outputs exist.

    If a kill left them behind, they would have no fingerprint and count as damaged, never as results, until the next
    adoption removes them (`_remove_stand_ins`).
    """
    with signals_raise():
        try:
            for path in absent:
                path.touch()
            yield
        finally:
            for path in absent:
                path.unlink(missing_ok=True)


def _remove_stand_ins(study: Study) -> None:
    for product in products_of(study, discarded_stages(study)):
        weights = product.outputs[-1]
        if weights.is_file() and not weights.stat().st_size and recorded_digest(weights) is not None:
            weights.unlink()


def _record(targets: list[Path], kept: list[Path], configfiles: Sequence[Path]) -> None:
    """Let Snakemake record the jobs that make `targets`, and preserve the times of the files `kept`."""
    program = snakemake_program()
    times = {path: path.stat().st_mtime_ns for path in kept}
    overlays = [str(path) for path in configfiles if path != base_file()]
    options = ["--touch", "--force", "--quiet", "--cores", "1", *(["--configfile", *overlays] if overlays else [])]
    options += [] if Path("Snakefile").exists() else ["--snakefile", str(CHECKOUT / "Snakefile")]
    try:
        for first in range(0, len(targets), _TARGETS_A_CALL):
            some = [str(path) for path in targets[first : first + _TARGETS_A_CALL]]
            ended = subprocess.run(
                [program, *some, *options], capture_output=True, text=True, env={**os.environ, ADOPTING: "1"}
            )
            if ended.returncode:
                reason = " ".join((ended.stderr or ended.stdout).split()[-40:])
                raise UserError(f"the times are in order, but Snakemake could not record the adopted results: {reason}")
    finally:
        for path, time in times.items():
            os.utime(path, ns=(time, time), follow_symlinks=False)


def render(adoption: Adoption, *, dry_run: bool) -> str:
    """Format as text: counts of verdicts by study, and each reason with its number of results."""
    lines = []
    for path in adoption.unprepared:
        lines.append(
            f"{path}: missing, out of date or damaged; run `snakemake data` with the same --configfile and adopt again"
        )
    for name, findings in adoption.findings.items():
        verdicts = [finding.verdict for finding in findings]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts)
        lines.append(f"{name}: {counts}")
        reasons: dict[tuple[str, str, str], list[Finding]] = {}
        for finding in findings:
            if finding.verdict not in (Verdict.DONE, Verdict.MISSING):
                stage = finding.product.stage
                reasons.setdefault((stage, finding.verdict, _kind(finding)), []).append(finding)
        for (stage, verdict, reason), group in reasons.items():
            more = f" (and {len(group) - 1} more)" if len(group) > 1 else ""
            lines.append(f"  {stage}, {verdict}: {group[0].product.outputs[0].parent}{more}: {reason}")
    if not dry_run:
        lines.append(f"The times of {adoption.mended} files were put in order, {adoption.recorded} jobs were recorded.")
        if adoption.remade_tables:
            lines.append(f"Tables and figures will be rebuilt: {', '.join(adoption.remade_tables)}.")
    return "\n".join(lines) + "\n"


def _kind(finding: Finding) -> str:
    """The reason without paths that differ between members, so they share one line."""
    if "not up to date" in finding.reason:
        return "made from something that is not up to date"
    if finding.reason.startswith("made from another"):
        names = sorted({path.name for path in finding.product.inputs.values() if str(path) in finding.reason})
        return f"made from another {' and '.join(names)}"
    return finding.reason
