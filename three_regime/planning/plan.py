"""Plan: what would be computed, its cost at measured rates, and the shortest possible duration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
    chosen = wanted(config, targets)
    parts = [_part(study_named(config, name), stages, rates) for name, stages in chosen.items() if name != ALL_STUDIES]
    drawn = [part for part in parts if {TABLES, FIGURES} & part.stages]
    named = {part.study.name: part for part in parts}
    untimed = tuple(name for name, part in named.items() if part.untimed)
    nothing = 0.0 if rates and not untimed else None
    thresholds = {part.study.name: part.study.thresholds.inherited for part in drawn}
    return Plan(
        rows=[*_rows(parts), *_row_of_all_studies(config, chosen.get(ALL_STUDIES, set()))],
        longest_chain_s=max((_longest_chain(part) for part in parts if rates and not part.untimed), default=nothing),
        rates=rates,
        scaled={name: part.speed.scaled for name, part in named.items() if part.speed and part.speed.scaled},
        unpriced=tuple(name for name in untimed if named[name].pricer.counted),
        uncounted=tuple(name for name, part in named.items() if not part.pricer.counted),
        untimed=untimed,
        unpriced_measures=tuple(sorted({measure for part in parts for measure in part.unpriced_measures})),
        assumed={name: part.pricer.assumed for name, part in named.items() if part.pricer.assumed and not part.idle},
        inherited={
            dataset: [name for name, other in thresholds.items() if other == dataset]
            for dataset in thresholds.values()
            if dataset
        },
        undecidable={part.study.name: claims for part in drawn if (claims := _undecidable(part.study))},
    )


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


@dataclass(frozen=True)
class _Part:
    """What the plan contains of one study.

    Attributes
    ----------
    stages
        Those whose files are wanted.
    jobs
        Of the heavy stages among them, and upstream.
    speed
        None if no rates have been measured, or none of a similar network.
    """

    study: Study
    stages: set[str]
    jobs: list[Job]
    pricer: Pricer
    rates: Rates | None
    speed: Speed | None

    @property
    def idle(self) -> bool:
        """Whether nothing is to be computed."""
        return not any(job.to_compute for job in self.jobs)

    @property
    def untimed(self) -> bool:
        """Whether there are rates, but none for what is to be computed."""
        return bool(self.rates) and not self.speed and not self.idle

    @cached_property
    def seconds(self) -> dict[int, float]:
        """``id`` of each job → its time; empty if unknown."""
        if self.speed:
            return {id(job): job_seconds(job, self.speed, self.pricer) for job in self.jobs}
        return {id(job): 0.0 for job in self.jobs} if self.rates and self.idle else {}

    @property
    def unpriced_measures(self) -> Iterable[str]:
        computed = any(job.to_compute for job in self.jobs if job.stage == "measures")
        return self.pricer.unpriced_measures if computed else ()


def _part(study: Study, stages: set[str], rates: Rates | None) -> _Part:
    jobs = jobs_of(study, _needed(judge(study, _with_upstream(stages)), stages))
    return _Part(study, stages, jobs, pricer_of(study), rates, speed_of(rates, study) if rates else None)


def _rows(parts: Iterable[_Part]) -> Iterator[Row]:
    """Each study's data, unless an earlier study has the same, its heavy stages, and its tables and figures."""
    seen: set[Path] = set()
    for part in parts:
        if part.study.prepared not in seen:
            seen.add(part.study.prepared)
            yield _data_row(part.study, part.pricer)
        for stage in _HEAVY:
            if any(job.stage == stage for job in part.jobs):
                yield _row(part, stage)
        if asked := {TABLES, FIGURES} & part.stages:
            size = _size(disk.of_analysis(part.study, part.pricer), part.stages)
            yield _row_of_files(part.study.name, asked, size)


def _row(part: _Part, stage: str) -> Row:
    """The row of a heavy stage."""
    jobs = [job for job in part.jobs if job.stage == stage]
    findings = [finding for job in jobs for finding in job.findings]
    verdicts = [finding.verdict for finding in findings]
    size = sum(part.pricer.bytes(finding.product) for finding in findings)
    size += len(jobs) * part.pricer.kept_state_bytes if stage == "dense" else 0
    size += disk.of_logs(len(jobs), len(findings))
    # At the measured rates; else NumPy on one CPU core.
    by_torch = stage != "prune" or part.study.config.prune.needs_data
    return Row(
        part.study.name,
        stage,
        len(jobs),
        sum(bool(job.to_compute) for job in jobs),
        verdicts.count(Verdict.DONE),
        verdicts.count(Verdict.STALE) + verdicts.count(Verdict.DAMAGED),
        verdicts.count(Verdict.MISSING) + verdicts.count(Verdict.UNKNOWN),
        sum(part.seconds[id(job)] for job in jobs) if part.seconds else None,
        size,
        bool(part.rates and part.rates.on_gpu and by_torch),
        part.speed.threads if part.speed and by_torch else 1,
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


def _longest_chain(part: _Part) -> float:
    """Seconds of the longest chain over seeds, temperatures and densities: dense, prune, retrain, then LMC or CKA."""
    ends: dict[tuple, float] = {}
    for stage in _HEAVY:
        before = {"prune": "dense", "retrain": "prune"}.get(stage, "retrain")
        for job in (job for job in part.jobs if job.stage == stage):
            at = (job.seed, job.temperature, job.density)
            upstream = [(before, *at)] if before != "dense" else [("dense", job.seed, each, None) for each in
                                                                  (None, job.temperature)]  # fmt: skip
            waits = max((ends.get(key, 0.0) for key in upstream), default=0.0) if stage != "dense" else 0.0
            ends[stage, *at] = waits + part.seconds[id(job)]
    return max(ends.values(), default=0.0)
