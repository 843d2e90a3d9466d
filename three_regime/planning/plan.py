"""Plan: what would be computed, its cost at measured rates, and the shortest possible duration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from three_regime.config import Config
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.names import nearest
from three_regime.planning import disk
from three_regime.planning.pricing import JOB_START_S, OTHER_START_S, Pricer, Rates, Speed, pricer_of, speed_of
from three_regime.preparation.prepare import is_prepared
from three_regime.study.grid import Study, planned, study_named
from three_regime.study.products import job_place
from three_regime.study.stages import COLLECTIONS, STAGES
from three_regime.study.verdicts import Finding, Verdict, judge

DATA, TABLES, FIGURES, DISCARD, REPORT = "data", "tables", "figures", "discard", "report"
_HEAVY = tuple(STAGES)
TARGETS: dict[str, tuple[str, ...]] = {
    "data": (DATA,),
    **COLLECTIONS,
    "tables": (*_HEAVY, TABLES),
    "figures": (*_HEAVY, FIGURES),
    "explorer": (*_HEAVY, TABLES),
    "report": (*_HEAVY, TABLES, FIGURES, REPORT),
    "discarded": (*_HEAVY, DISCARD),
    "all": (*_HEAVY, TABLES, FIGURES, DISCARD, REPORT),
}
"""Target → the stages whose files it includes. Stage names (``prune``, ``retrain``) are accepted as well. The explorer
has no row of its own: it is small and made from the tables."""

ALL_STUDIES = "all studies"
"""Study name in the row of files made once for all studies."""

_ALIASES = {"prune": "pruned", "retrain": "retrained"}


@dataclass(frozen=True)
class Job:
    """One job of a heavy stage, with the findings on its pack.

    Attributes
    ----------
    temperature, density
        None if the job spans them.
    """

    study: Study
    stage: str
    seed: int
    temperature: float | None
    density: float | None
    findings: tuple[Finding, ...]

    @property
    def to_compute(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.done]


@dataclass(frozen=True)
class Row:
    """One study and stage of the plan: data, a heavy stage, or tables and figures.

    For tables, figures and reports, which take seconds, only the size is given; `snakemake --dry-run` lists their jobs.

    Attributes
    ----------
    jobs, jobs_to_run
        Number of all jobs, and of those with something to compute.
    done, stale, missing
        Numbers of members (products) by verdict; `stale` includes damaged ones, `missing` those that cannot be checked.
    seconds
        Time of the remaining work on one device; None if no rates have been measured.
    size
        Bytes of the stage's files when finished.
    on_gpu
        Whether `seconds` are GPU seconds.
    threads
        CPU threads busy during `seconds`.
    """

    study: str
    stage: str
    jobs: int
    jobs_to_run: int
    done: int
    stale: int
    missing: int
    seconds: float | None
    size: float
    on_gpu: bool
    threads: int = 1

    @property
    def members(self) -> int:
        return self.done + self.stale + self.missing


@dataclass(frozen=True)
class Plan:
    """The cost of a set of targets.

    Attributes
    ----------
    longest_chain_s
        Seconds from start to end with unlimited devices: the longest chain of dependent jobs, over the studies that
        can be priced; None if there are none.
    scaled
        Study → the measured network that its rates are scaled from.
    unpriced
        Studies with something to compute for which no similar network has been measured.
    uncounted
        Studies whose model family does not count its layers, so neither hours nor bytes of weights are known.
    untimed
        Studies with something to compute whose hours are unknown for either reason; excluded from sums and chains.
    unpriced_measures
        Additional measures to compute whose work is unknown; they are not in the hours of their stage.
    assumed
        Studies with something to compute → what their price assumes of data that have not been prepared.
    inherited
        Data set → studies on other data sets that use the regime thresholds fitted for it.
    undecidable
        Study of one dense seed → its claims that only the spread over several can decide.
    """

    rows: list[Row]
    longest_chain_s: float | None
    rates: Rates | None
    scaled: dict[str, str]
    unpriced: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    untimed: tuple[str, ...] = ()
    unpriced_measures: tuple[str, ...] = ()
    assumed: dict[str, str] = field(default_factory=dict)
    inherited: dict[str, list[str]] = field(default_factory=dict)
    undecidable: dict[str, list[str]] = field(default_factory=dict)


def make(config: Config, targets: Sequence[str], rates: Rates | None) -> Plan:
    """Judge and price everything that `targets` need (default: all planned studies).

    Parameters
    ----------
    targets
        Keys of ``TARGETS``, stage names, study names, ``<study>_<target>`` or ``<target>:<study>``.

    Raises
    ------
    UserError
        When a target is unknown.
    """
    rows: list[Row] = []
    chains: list[float] = []
    scaled: dict[str, str] = {}
    unpriced: list[str] = []
    uncounted: list[str] = []
    untimed: list[str] = []
    unpriced_measures: set[str] = set()
    assumed: dict[str, str] = {}
    inherited: dict[str, list[str]] = {}
    undecidable: dict[str, list[str]] = {}
    seen: set[Path] = set()
    chosen = wanted(config, targets)
    for name, stages in chosen.items():
        if name == ALL_STUDIES:
            continue
        study = study_named(config, name)
        if study.thresholds.inherited and {TABLES, FIGURES} & stages:
            inherited.setdefault(study.thresholds.inherited, []).append(name)
        if {TABLES, FIGURES} & stages and (claims := _undecidable(study)):
            undecidable[name] = claims
        pricer = pricer_of(study)
        speed_here = speed_of(rates, study) if rates else None
        if not pricer.counted:
            uncounted.append(name)
        if speed_here and speed_here.scaled:
            scaled[name] = speed_here.scaled
        if study.prepared not in seen:
            seen.add(study.prepared)
            rows.append(_data_row(study, pricer))
        heavy = _with_upstream(stages)
        jobs = jobs_of(study, _needed(judge(study, heavy), stages))
        idle = not any(job.to_compute for job in jobs)
        if not idle and pricer.assumed:
            assumed[name] = pricer.assumed
        seconds = {id(job): job_seconds(job, speed_here, pricer) for job in jobs} if speed_here else {}
        if rates and not speed_here and idle:
            seconds = {id(job): 0.0 for job in jobs}
        elif rates and not speed_here:
            untimed.append(name)
            unpriced += [name] if pricer.counted else []
        if any(job.to_compute for job in jobs if job.stage == "measures"):
            unpriced_measures.update(pricer.unpriced_measures)
        for stage in heavy:
            here = [job for job in jobs if job.stage == stage]
            rows += [_row(study, stage, here, pricer, seconds, speed_here, rates)] if here else []
        if asked := {TABLES, FIGURES} & stages:
            rows.append(_row_of_files(name, asked, _size(disk.of_analysis(study, pricer), stages)))
        if rates and name not in untimed:
            chains.append(_longest_chain(jobs, seconds))
    rows += _row_of_all_studies(config, chosen.get(ALL_STUDIES, set()))
    nothing = 0.0 if rates and not untimed else None
    chain = max(chains, default=nothing)
    return Plan(
        rows, chain, rates, scaled, tuple(unpriced), tuple(uncounted), tuple(untimed),
        tuple(sorted(unpriced_measures)), assumed, inherited, undecidable,
    )  # fmt: skip


def wanted(config: Config, targets: Sequence[str]) -> dict[str, set[str]]:
    """Study or ``ALL_STUDIES`` → the stages whose files `targets` include (see `make`)."""
    names = [study.name for study in planned(config)]
    chosen: dict[str, set[str]] = {}
    for target in targets or ["all"]:
        kind, _, name = _of_one_study(config, target).partition(":")
        if not name and kind in config.studies:
            kind, name = "all", kind
        kind = _ALIASES.get(kind, kind)
        if kind not in TARGETS or (name and name not in config.studies):
            allowed = [*TARGETS, *_ALIASES, *config.studies]
            raise UserError(
                f"unknown target '{target}'{nearest(name or kind, allowed)}; use {', '.join([*TARGETS, *_ALIASES])},"
                f" a study's name, or <target>:<study>. Planned: {', '.join(names) or 'no study'}; for another preset"
                " give --configfile config/<preset>.yaml"
            )
        stages = set(TARGETS[kind]) - ({REPORT} if name else set())
        for each in [name] if name else [*names, ALL_STUDIES]:
            chosen.setdefault(each, set()).update(stages)
    return chosen


def _undecidable(study: Study) -> list[str]:
    """Claims over dense seeds of a study that has only one."""
    if len(study.config.dense_seeds) > 1:
        return []
    return [claim.name for claim in study.config.claims if claim.over == "dense seeds"]


def _of_one_study(config: Config, target: str) -> str:
    """Turn a Snakemake target, ``<study>_retrained``, into ``retrained:<study>``; return other targets unchanged.

    Whole studies come first, because one may be named like a part of another: ``x`` and ``x-tables``.
    """
    identifiers = {study_named(config, name).identifier: name for name in config.studies}
    if target in identifiers:
        return identifiers[target]
    parts = {f"{each}_{kind}": (kind, each) for each in identifiers for kind in (*COLLECTIONS, TABLES, FIGURES)}
    if target not in parts:
        return target
    kind, identifier = parts[target]
    return f"{kind}:{identifiers[identifier]}"


def _with_upstream(stages: set[str]) -> list[str]:
    """The heavy stages among `stages` and their upstream stages, in order."""
    last = max((_HEAVY.index(stage) for stage in stages if stage in _HEAVY), default=-1)
    before = _HEAVY[: _HEAVY.index("retrain") + 1]
    return [stage for stage in _HEAVY[: last + 1] if stage in stages or stage in before]


def _needed(findings: list[Finding], stages: set[str]) -> list[Finding]:
    """Omit missing products that nothing needs, such as those upstream of an imported checkpoint."""
    asked: set[Path] = set()
    kept = []
    for finding in reversed(findings):
        needed = finding.product.stage in stages or not asked.isdisjoint(finding.product.outputs)
        if needed and not finding.done:
            asked.update(finding.product.inputs.values())
        if needed or finding.verdict is not Verdict.MISSING:
            kept.append(finding)
    return kept[::-1]


def jobs_of(study: Study, findings: Iterable[Finding]) -> list[Job]:
    """Group the findings on a study by job, as the workflow's rules do."""
    packs: dict[tuple, list[Finding]] = {}
    for finding in findings:
        key = (finding.product.stage, *job_place(study, finding.product))
        packs.setdefault(key, []).append(finding)
    return [Job(study, *key, tuple(members)) for key, members in packs.items()]


def job_seconds(job: Job, speed_here: Speed, pricer: Pricer) -> float:
    """Time of a job including its start; 0 when it has nothing to compute."""
    products = [finding.product for finding in job.to_compute]
    start = JOB_START_S.get(job.stage, OTHER_START_S)
    return start + pricer.seconds(products, speed_here) if products else 0.0


def _row(
    study: Study,
    stage: str,
    jobs: list[Job],
    pricer: Pricer,
    seconds: dict[int, float],
    speed_here: Speed | None,
    rates: Rates | None,
) -> Row:
    findings = [finding for job in jobs for finding in job.findings]
    verdicts = [finding.verdict for finding in findings]
    size = sum(pricer.bytes(finding.product) for finding in findings)
    size += len(jobs) * pricer.kept_state_bytes if stage == "dense" else 0
    size += disk.of_logs(len(jobs), len(findings))
    by_torch = stage != "prune" or study.config.prune.needs_data  # at the measured rates; else NumPy on one CPU core
    return Row(
        study.name,
        stage,
        len(jobs),
        sum(bool(job.to_compute) for job in jobs),
        verdicts.count(Verdict.DONE),
        verdicts.count(Verdict.STALE) + verdicts.count(Verdict.DAMAGED),
        verdicts.count(Verdict.MISSING) + verdicts.count(Verdict.UNKNOWN),
        sum(seconds[id(job)] for job in jobs) if seconds else None,
        size,
        bool(rates and rates.on_gpu and by_torch),
        speed_here.threads if speed_here and by_torch else 1,
    )


def _data_row(study: Study, pricer: Pricer) -> Row:
    ready = is_prepared(study.config.dataset, study.data)
    downloads = len(DATASETS[study.config.dataset.name].sources)
    to_run = 0 if ready else 1 + downloads
    return Row(
        study.config.dataset.name, DATA, 1 + downloads, to_run, int(ready), 0, int(not ready), 0.0,
        pricer.data_bytes() * (2 if downloads else 1), False,
    )  # fmt: skip


def _row_of_all_studies(config: Config, asked: set[str]) -> list[Row]:
    """Files made once: the published figure, tables over all studies, the report and the settings."""
    if not {TABLES, FIGURES} & asked:
        return []
    published = config.published
    size = _size(disk.of_published(), asked) if published else 0.0
    size += disk.of_comparison(config) if TABLES in asked else 0.0
    if REPORT in asked:
        grids = [disk.of_analysis(study, pricer_of(study)) for study in planned(config)]
        grids += [disk.of_published()] if published else []
        size += disk.of_report(sum(each.png for each in grids))
    return [_row_of_files(ALL_STUDIES, asked, size)]


def _row_of_files(name: str, asked: set[str], size: float) -> Row:
    stage = ", ".join(each for each in (TABLES, FIGURES, REPORT) if each in asked)
    return Row(name, stage, 0, 0, 0, 0, 0, 0.0, size, False)


def _size(analysis: disk.Analysis, asked: set[str]) -> float:
    return analysis.total if FIGURES in asked else analysis.tables


def _longest_chain(jobs: list[Job], seconds: dict[int, float]) -> float:
    """Longest chain over seeds, temperatures and densities: dense, prune, retrain, then LMC or CKA."""
    ends: dict[tuple, float] = {}
    for stage in _HEAVY:
        before = {"prune": "dense", "retrain": "prune"}.get(stage, "retrain")
        for job in (job for job in jobs if job.stage == stage):
            at = (job.seed, job.temperature, job.density)
            upstream = [(before, *at)] if before != "dense" else [("dense", job.seed, each, None) for each in
                                                                  (None, job.temperature)]  # fmt: skip
            waits = max((ends.get(key, 0.0) for key in upstream), default=0.0) if stage != "dense" else 0.0
            ends[stage, *at] = waits + seconds[id(job)]
    return max(ends.values(), default=0.0)
