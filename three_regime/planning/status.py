"""Status of a run from locks, saved states and logs: running jobs with their epochs, finished products, and tables."""

from __future__ import annotations

import contextlib
import fcntl
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from humanfriendly import format_timespan
from tabulate import tabulate

from three_regime.config import Config, Training
from three_regime.config.knobs import density_folder
from three_regime.errors import UserError
from three_regime.jobs.job import lock_file, state_files
from three_regime.planning.plan import Job, jobs_of
from three_regime.planning.pricing import pricer_of
from three_regime.study.grid import Study, planned
from three_regime.study.log_files import job_path
from three_regime.study.products import Product
from three_regime.study.results import read_result
from three_regime.study.stages import STAGES
from three_regime.study.table_sources import tables_agree
from three_regime.study.verdicts import Finding, judge
from three_regime.training import saved_state

_LOG_TAIL = 4096


@dataclass(frozen=True)
class Saved:
    """Progress of a training run according to its state file.

    Attributes
    ----------
    epoch, step
        Completed epochs, and completed steps of the current epoch.
    spent_s
        Seconds of training until then, over all interruptions; of a member that advances with others, its share.
    saved_at
        Time the file was written, in seconds since 1970.
    """

    epoch: int
    step: int
    spent_s: float
    saved_at: float

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.step


@dataclass(frozen=True)
class Running:
    """A running job, i.e. one that holds its lock.

    Attributes
    ----------
    member
        The current member according to the latest state, and how many others are at the same step; empty if no state
        has been saved yet, and for stages without training.
    epoch, epochs
        Completed epochs (fractional) and length of that member's run; NaN and 0 without a member.
    done, members
        Finished products and all products of the pack.
    since_saved_s, left_s
        Seconds since the state was saved, and estimated until the job ends; None if unknown.
    last_line
        The last line of its log.
    """

    study: str
    stage: str
    seed: int
    temperature: float | None
    density: float | None
    member: str
    epoch: float
    epochs: int
    done: int
    members: int
    since_saved_s: float | None
    left_s: float | None
    last_line: str


@dataclass(frozen=True)
class Status:
    """Running jobs, and how far the planned studies are.

    Attributes
    ----------
    counts
        ``(study, stage, done, total)`` for each stage.
    tables
        Study → ``up to date`` if its tables were built from the current results, ``outdated`` if from others, or
        ``not built``.
    """

    running: list[Running]
    counts: list[tuple[str, str, int, int]]
    tables: dict[str, str]


def look(config: Config, now: float | None = None) -> Status:
    """Read the locks, states and results of the planned studies; change nothing.

    Parameters
    ----------
    now
        Seconds since 1970; None: the current time.
    """
    now = time.time() if now is None else now
    running: list[Running] = []
    counts: list[tuple[str, str, int, int]] = []
    tables: dict[str, str] = {}
    for study in planned(config):
        findings = judge(study)
        total, done = Counter(), Counter()
        for finding in findings:
            total[finding.product.stage] += 1
            done[finding.product.stage] += finding.done
        counts += [(study.name, stage, done[stage], total[stage]) for stage in STAGES if total[stage]]
        tables[study.name] = _tables(study, findings)
        running += [_running(job, now) for job in jobs_of(study, findings) if _held(_lock(job))]
    return Status(running, counts, tables)


def _tables(study: Study, findings: Sequence[Finding]) -> str:
    if not study.table("cells").exists():
        return "not built"
    return "up to date" if tables_agree(study, findings) else "outdated"


def read_saved(path: Path) -> Saved | None:
    """Progress recorded in a training state; None when the file does not exist or cannot be read."""
    try:
        about = saved_state.recorded(path)
        return Saved(about["epoch"], about["step"], about["wall_s"], path.stat().st_mtime)
    except (UserError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _lock(job: Job) -> Path:
    return lock_file(job.study, job.stage, job.seed, job.temperature, job.density)


def _held(path: Path) -> bool:
    """Whether a running process holds the lock (tries to acquire it, and releases it at once)."""
    with contextlib.suppress(OSError), open(path, "rb") as file:  # another user's lock can be read, not written
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _running(job: Job, now: float) -> Running:
    study = job.study
    done = sum(finding.done for finding in job.findings)
    left = _left_by_members(job, now)
    member, epoch, epochs, since = "", math.nan, 0, None
    states = _states(job)
    if saved := max((state for _, state in states if state), key=lambda state: state.saved_at, default=None):
        beside = [product for product, state in states if state and state.position == saved.position]
        training = _training(study, beside[0])
        epochs = _epochs(study, job)
        steps = pricer_of(study).steps(training)
        epoch = saved.epoch + saved.step / steps
        since = now - saved.saved_at
        if not (job.stage == "dense" and study.one_dense_run):
            member = beside[0].label + (f" and {len(beside) - 1} more" if beside[1:] else "")
        if epoch > 0:
            behind = sum(epochs - (state.epoch + state.step / steps if state else 0) for _, state in states)
            left = max(0.0, saved.spent_s / epoch * behind - since)
    return Running(
        study.name, job.stage, job.seed, job.temperature, job.density, member, epoch, epochs,
        done, len(job.findings), since, left, _last_line(job),
    )  # fmt: skip


def _left_by_members(job: Job, now: float) -> float | None:
    """Time left, from the mean time of finished members of each measure; None before each has a finished one."""
    spent: dict[str, list[float]] = {}
    written = []
    for finding in job.findings:
        if finding.done and not finding.imported:
            path = finding.product.outputs[0]
            written.append(path.stat().st_mtime)
            spent.setdefault(_kind(finding.product), []).append(read_result(path).provenance["wall_s"])
    left = [_kind(finding.product) for finding in job.to_compute]
    if not left or not spent.keys() >= set(left):
        return None
    mean = {kind: statistics.fmean(walls) for kind, walls in spent.items()}
    under_way = min(mean[left[0]], now - max(written))
    return max(0.0, sum(mean[kind] for kind in left) - under_way)


def _kind(product: Product) -> str:
    """What products of a similar time have in common."""
    return str(product.recipe.get("measure", product.stage))


def _states(job: Job) -> list[tuple[Product, Saved | None]]:
    """A product and the progress of each training run still to compute."""
    products = [finding.product for finding in job.to_compute if _trains(finding.product)]
    runs = {state_files(job.study, product): product for product in products}
    return [(product, _progress(job, paths)) for paths, product in runs.items()]


def _trains(product: Product) -> bool:
    """Whether status knows the length of the product's training; of the additional measures, only curves train."""
    return product.stage != "measures" or product.recipe["measure"] == "bezier"


def _progress(job: Job, paths: Sequence[Path]) -> Saved | None:
    """Progress of a run according to its states."""
    found = [saved for path in paths if (saved := read_saved(path))]
    if job.stage == "prune" and found:  # each round has its own
        return Saved(
            sum(saved.epoch for saved in found),
            sum(saved.step for saved in found),
            sum(saved.spent_s for saved in found),
            max(saved.saved_at for saved in found),
        )
    if job.stage == "dense" and job.study.one_dense_run:  # a state past the first checkpoint to compute waits
        first = min(finding.product.coordinates["temperature"] for finding in job.to_compute)
        found = [saved for saved in found if saved.position <= (first, 0)]
    return max(found, key=lambda saved: saved.saved_at, default=None)


def _training(study: Study, product: Product) -> Training:
    """Settings with the batch size of a product's training."""
    if product.stage == "dense":
        return study.config.dense_at(product.coordinates["temperature"])
    return study.config.retrain


def _epochs(study: Study, job: Job) -> int:
    """Length of each training run of a job."""
    config = study.config
    if job.stage == "dense" and study.one_dense_run:
        return int(max(finding.product.coordinates["temperature"] for finding in job.to_compute))
    if job.stage == "prune":
        return (config.prune.rounds - 1) * config.prune.epochs
    if job.stage == "measures":
        return config.measure.bezier.epochs
    pricer = pricer_of(study)
    return pricer.retrain_epochs if job.stage == "retrain" else pricer.dense_epochs(job.temperature)


def _last_line(job: Job) -> str:
    path = Path(job_path(job.study, "logs", job.stage, ".log").format(**_wildcards(job)))
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_TAIL))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
        return (lines[-1].partition(" | ")[2] or lines[-1]) if lines else ""
    return ""


def _wildcards(job: Job) -> dict[str, Any]:
    return {
        "seed": job.seed,
        "temperature": "" if job.temperature is None else job.study.knob.folder(job.temperature),
        "density": "" if job.density is None else density_folder(job.density),
    }


def render(status: Status) -> str:
    """Format the status as text."""
    parts = ["Nothing is running."]
    if status.running:
        headers = ["stage", "study", "seed", "temperature", "member", "epoch", "done", "saved", "left", "last line"]
        rows = [
            [
                job.stage,
                job.study,
                job.seed,
                "all" if job.temperature is None else f"{job.temperature:g}",
                job.member,
                "" if math.isnan(job.epoch) else f"{job.epoch:.1f} of {job.epochs}",
                f"{job.done} of {job.members}",
                "" if job.since_saved_s is None else f"{_span(job.since_saved_s)} ago",
                "" if job.left_s is None else _span(job.left_s),
                job.last_line[:70],
            ]
            for job in status.running
        ]
        parts = [tabulate(rows, headers, disable_numparse=True)]
    stages = [stage for stage in STAGES if stage in {found for _, found, _, _ in status.counts}]
    by_study: dict[str, dict[str, str]] = {}
    for name, stage, done, total in status.counts:
        by_study.setdefault(name, {})[stage] = f"{done} of {total}"
    rows = [[name, *(of.get(stage, "") for stage in stages), status.tables[name]] for name, of in by_study.items()]
    sides = ["left", *["right"] * len(stages), "left"]
    parts.append(tabulate(rows, ["done", *stages, "tables"], disable_numparse=True, colalign=sides))
    return "\n\n".join(parts) + "\n"


def _span(seconds: float) -> str:
    return format_timespan(round(seconds), max_units=2)
