"""The priced plan: what would be computed, what it costs at measured rates, and how long it takes at best. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from humanfriendly import format_size, format_timespan
from tabulate import tabulate

from three_regime import disk
from three_regime.config import Config
from three_regime.datasets import DATASETS
from three_regime.datasets.prepare import is_prepared
from three_regime.errors import UserError
from three_regime.names import nearest
from three_regime.pricing import JOB_START_S, OTHER_START_S, Pricer, Rates, Speed
from three_regime.pricing_text import pricer_of, speed_of
from three_regime.stages import CELL_TABLES, REGIME_TABLES, STAGES, job_place
from three_regime.study import Study, planned, study
from three_regime.survey import Finding, Verdict, survey

DATA, ANALYSIS, REPORT = "data", "analysis", "report"
_HEAVY = tuple(STAGES)
TARGETS: dict[str, tuple[str, ...]] = {
    "data": (DATA,),
    "dense": ("dense",),
    "pruned": ("prune",),
    "retrained": ("retrain",),
    "landscape": ("lmc", "cka"),
    "lmc": ("lmc",),
    "cka": ("cka",),
    **dict.fromkeys(("tables", "figures"), (*_HEAVY, ANALYSIS)),
    **dict.fromkeys(("all", "report"), (*_HEAVY, ANALYSIS, REPORT)),
}
"""Target → the stages whose files it asks for. The stages' own names (``prune``, ``retrain``) may be used as well."""

_ALIASES = {"prune": "pruned", "retrain": "retrained"}


@dataclass(frozen=True)
class Job:
    """One job of a heavy stage: the findings on its pack.

    Attributes
    ----------
    temperature, density
        None where the job spans them.
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
    """One study and stage of the plan.

    Attributes
    ----------
    jobs, jobs_to_run
        All jobs, and those that have something to compute.
    done, stale, missing
        Members (products) by verdict; `stale` holds the damaged ones too, `missing` those that cannot be checked.
    seconds
        Time of the work that is to be done, on one device; None where nothing has been measured.
    size
        Bytes of the stage's files when all is finished.
    on_gpu
        Whether `seconds` are those of a GPU.
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

    @property
    def members(self) -> int:
        return self.done + self.stale + self.missing


@dataclass(frozen=True)
class Plan:
    """What a set of targets needs.

    Attributes
    ----------
    longest_chain_s
        Seconds from start to end with unlimited devices: the longest sequence of jobs that wait for each other.
    scaled
        Study → the measured network that its rates were scaled from.
    unpriced
        Studies of which nothing like their network has been measured: their hours are unknown and in no sum.
    """

    rows: list[Row]
    longest_chain_s: float | None
    rates: Rates | None
    scaled: dict[str, str]
    unpriced: tuple[str, ...] = ()


def make(config: Config, targets: Sequence[str], rates: Rates | None) -> Plan:
    """Judge and price everything that `targets` need (all planned studies, when there are none).

    Parameters
    ----------
    targets
        Keys of ``TARGETS``, stage names, study names, or ``<study>_<target>``, or ``<target>:<study>``.

    Raises
    ------
    UserError
        When a target is neither.
    """
    rows: list[Row] = []
    chains: list[float] = []
    scaled: dict[str, str] = {}
    unpriced: list[str] = []
    seen: set[Path] = set()
    drawn: list[disk.Analysis] = []
    whole = not targets
    for name, stages in wanted(config, targets).items():
        owner = study(config, name)
        pricer = pricer_of(owner)
        speed_here = speed_of(rates, owner) if rates else None
        if rates and not speed_here:
            unpriced.append(name)
        if speed_here and speed_here.scaled:
            scaled[name] = speed_here.scaled
        if owner.prepared not in seen:
            seen.add(owner.prepared)
            rows.append(_data_row(owner, pricer))
        heavy = _with_upstream(stages)
        jobs = jobs_of(owner, _needed(survey(owner, heavy), stages))
        seconds = {id(job): job_seconds(job, speed_here, pricer) for job in jobs} if speed_here else {}
        for stage in heavy:
            here = [job for job in jobs if job.stage == stage]
            rows += [_row(owner, stage, here, pricer, seconds, rates)] if here else []
        if ANALYSIS in stages:
            drawn.append(disk.of_analysis(owner, pricer))
            rows.append(_analysis_row(owner, any(job.to_compute for job in jobs), drawn[-1].total))
        whole |= REPORT in stages
        chains.append(_longest_chain(jobs, seconds))
    if whole:
        rows.append(_report_row(config, drawn))
    return Plan(rows, max(chains, default=0.0) if rates else None, rates, scaled, tuple(unpriced))


def wanted(config: Config, targets: Sequence[str]) -> dict[str, set[str]]:
    """Study → the stages whose files `targets` ask for (see `make`)."""
    names = [owner.name for owner in planned(config)]
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
                " a study's name, or <target>:<study>"
            )
        for each in [name] if name else names:
            chosen.setdefault(each, set()).update(TARGETS[kind])
    return chosen


def _of_one_study(config: Config, target: str) -> str:
    """A study's target by its Snakemake name, ``<study>_retrained``, as ``retrained:<study>``; others as they are."""
    for name in config.studies:
        identifier = study(config, name).identifier
        kind = target.removeprefix(f"{identifier}_")
        if target == identifier or (kind != target and kind in TARGETS):
            return name if target == identifier else f"{kind}:{name}"
    return target


def _with_upstream(stages: set[str]) -> list[str]:
    """The heavy stages among `stages`, and those that they are made from, in order."""
    last = max((_HEAVY.index(stage) for stage in stages if stage in _HEAVY), default=-1)
    before = _HEAVY[: _HEAVY.index("retrain") + 1]
    return [stage for stage in _HEAVY[: last + 1] if stage in stages or stage in before]


def _needed(findings: list[Finding], stages: set[str]) -> list[Finding]:
    """Leave out what is missing and asked for by nothing, such as what an imported checkpoint was made from."""
    asked: set[Path] = set()
    kept = []
    for finding in reversed(findings):
        needed = finding.product.stage in stages or not asked.isdisjoint(finding.product.outputs)
        if needed and not finding.done:
            asked.update(finding.product.inputs.values())
        if needed or finding.verdict is not Verdict.MISSING:
            kept.append(finding)
    return kept[::-1]


def jobs_of(owner: Study, findings: Iterable[Finding]) -> list[Job]:
    """The findings on a study, gathered by job as the workflow's rules do."""
    packs: dict[tuple, list[Finding]] = {}
    for finding in findings:
        key = (finding.product.stage, *job_place(owner, finding.product))
        packs.setdefault(key, []).append(finding)
    return [Job(owner, *key, tuple(members)) for key, members in packs.items()]


def job_seconds(job: Job, speed_here: Speed, pricer: Pricer) -> float:
    """Time that a job needs for what it has to compute, its start included; 0 when that is nothing."""
    products = [finding.product for finding in job.to_compute]
    start = JOB_START_S.get(job.stage, OTHER_START_S)
    return start + speed_here.seconds(pricer.job(products)) if products else 0.0


def _row(
    owner: Study,
    stage: str,
    jobs: list[Job],
    pricer: Pricer,
    seconds: dict[int, float],
    rates: Rates | None,
) -> Row:
    findings = [finding for job in jobs for finding in job.findings]
    verdicts = [finding.verdict for finding in findings]
    size = sum(pricer.bytes(finding.product) for finding in findings)
    size += len(jobs) * pricer.kept_state_bytes if stage == "dense" else 0
    size += disk.of_logs(len(jobs), len(findings))
    return Row(
        owner.name,
        stage,
        len(jobs),
        sum(bool(job.to_compute) for job in jobs),
        verdicts.count(Verdict.DONE),
        verdicts.count(Verdict.STALE) + verdicts.count(Verdict.DAMAGED),
        verdicts.count(Verdict.MISSING) + verdicts.count(Verdict.UNKNOWN),
        sum(seconds[id(job)] for job in jobs) if seconds else None,
        size,
        bool(rates and rates.on_gpu and stage != "prune"),
    )


def _data_row(owner: Study, pricer: Pricer) -> Row:
    ready = is_prepared(owner.config.dataset, owner.data)
    downloads = len(DATASETS[owner.config.dataset.name].sources)
    to_run = 0 if ready else 1 + downloads
    return Row(
        owner.config.dataset.name, DATA, 1 + downloads, to_run, int(ready), 0, int(not ready), 0.0,
        pricer.data_bytes() * (2 if downloads else 1), False,
    )  # fmt: skip


def _analysis_row(owner: Study, upstream_changes: bool, size: float) -> Row:
    names = (*CELL_TABLES, *REGIME_TABLES)
    there = sum((owner.folder / f"{name}.csv").exists() for name in names)
    stale = there if upstream_changes else 0
    to_run = 3 if stale or there < len(names) else 0
    return Row(owner.name, ANALYSIS, 3, to_run, there - stale, stale, len(names) - there, 0.0, size, False)


def _report_row(config: Config, drawn: list[disk.Analysis]) -> Row:
    """What is made once for all studies: the report, the settings, the published figure, tables over all studies."""
    root = Path(config.results)
    ready = (root / "report.html").exists()
    published = [disk.of_published()] if config.published else []
    size = sum(each.total for each in published)
    size += disk.of_report(sum(each.png for each in [*drawn, *published]), published=config.published)
    return Row("", REPORT, 1, int(not ready), int(ready), 0, int(not ready), 0.0, size, False)


def _longest_chain(jobs: list[Job], seconds: dict[int, float]) -> float:
    """Dense, prune and retrain one after another, then LMC beside CKA, over all seeds, temperatures and densities."""
    if not seconds:
        return 0.0
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


def render(plan: Plan) -> str:
    """The plan as a text table, with totals and where the rates come from."""
    headers = ["study", "stage", "jobs", "to run", "members", "done", "stale", "missing", "GPU h", "CPU h", "disk"]
    threads = plan.rates.threads if plan.rates else 1
    table = [
        [
            row.study + ("*" if row.study in plan.scaled and row.stage in _HEAVY else ""),
            row.stage,
            row.jobs,
            row.jobs_to_run,
            row.members,
            row.done,
            row.stale,
            row.missing,
            _hours(row.seconds if row.on_gpu else 0.0),
            _hours(_cpu_seconds(row, threads)),
            format_size(row.size, binary=False) if row.size else "",
        ]
        for row in plan.rows
    ]
    sums = [sum(getattr(row, name) for row in plan.rows) for name in
            ("jobs", "jobs_to_run", "members", "done", "stale", "missing")]  # fmt: skip
    gpu = [row.seconds for row in plan.rows if row.on_gpu]
    cpu = [_cpu_seconds(row, threads) for row in plan.rows]
    measured = plan.rates is not None
    total = [
        "total", "", *sums,
        _hours(sum(seconds or 0 for seconds in gpu) if measured else None),
        _hours(sum(seconds or 0 for seconds in cpu) if measured else None),
        format_size(sum(row.size for row in plan.rows), binary=False),
    ]  # fmt: skip
    text = tabulate([*table, total], headers, tablefmt="simple", colalign=("left", "left", *["right"] * 9))
    return "\n".join([text, "", *_notes(plan)]) + "\n"


def _notes(plan: Plan) -> list[str]:
    if plan.rates is None or plan.longest_chain_s is None:
        return ["Times are unknown: no rates have been measured for this machine (benchmarks/rates)."]
    chain = format_timespan(round(plan.longest_chain_s), max_units=2)
    notes = [
        f"Longest chain, with a device for every job: {chain}.",
        f"Rates: {plan.rates.title}. Each run is counted from its start; saved training states make it less.",
    ]
    if not plan.rates.on_gpu:
        notes.append("CPU hours are hours of one core.")
    if plan.unpriced:
        notes.append(
            f"Hours of {', '.join(plan.unpriced)} are unknown (?) and in no sum: no Transformer has been measured"
            " on this device."
        )
    for network in sorted(set(plan.scaled.values())):
        notes.append(f"* not measured; rates scaled from {network} by multiply-adds.")
    return notes


def _cpu_seconds(row: Row, threads: int) -> float | None:
    if row.seconds is None or row.on_gpu:
        return None if row.seconds is None else 0.0
    return row.seconds * (threads if row.stage in _HEAVY and row.stage != "prune" else 1)


def _hours(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds == 0:
        return ""
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.3f}"
