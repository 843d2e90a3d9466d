"""Patches for Snakemake's SLURM plugin, which loses jobs (observed in 2.8.0 and its jobstep plugin 0.6.1).

- **Arrays** (``slurm-array-jobs``): the plugin drops the jobs it was given while more jobs of the rule are ready than
  the queue limit (``jobs``), and Snakemake waits for them forever; all tasks get the resources of the first. Patch: an
  array consists of jobs of one rule that were submitted together and request the same resources.
- **Job states**: ``sacct`` prints ``CANCELLED by 0``, which the plugin takes for running, and raw job ids, where the id
  of an array is that of one of its tasks. Patch: one-word states, keyed by the submitted ids. For a waiting array,
  SLURM prints one line (``1_[2-3]``), from which a cancelled task is simply absent.
- **Polling interval**: the plugin increases it up to 180 s. Patch: the end of a job is noticed within a minute.
- **First task of an array**: it runs outside a job step, where signals of a preemption do not arrive. Patch: it runs as
  a step like the others.
- **Other tasks of an array**: each starts as the first task and runs its own command within, and its end is taken for
  that of the first task: if it ends long before, it fails because the first task's files are missing; if it fails, it
  removes them. Patch: it becomes its own command.
- **Log of a task**: the plugin records a different path from the one it gives to SLURM. Patch: the actual path.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
    from snakemake_interface_executor_plugins.jobs import JobExecutorInterface as Job

MOST_S = 40
"""Maximum polling interval in seconds: the plugin's initial interval."""

_WAITING = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
"""Waiting tasks of an array in SLURM's format."""

_EXECS = re.compile(r"\s--slurm-jobstep-array-execs(?:=|\s+)(\S+)")
"""Option with the commands of the other tasks, base64-encoded."""


def mend() -> None:
    """Patch the plugins that Snakemake has loaded, in this process; do nothing if they are not loaded."""
    submitting = sys.modules.get("snakemake_executor_plugin_slurm")
    if submitting is not None and not hasattr(submitting.query_job_status, "__wrapped__"):
        _mend_submitting(submitting)
    within = sys.modules.get("snakemake_executor_plugin_slurm_jobstep")
    if within is not None and not hasattr(within.Executor.run_job, "__wrapped__"):
        if command := own_command(within, sys.argv, os.environ):
            os.execv("/bin/sh", ["sh", "-c", command])
        _mend_step(within)


def _mend_submitting(plugin: ModuleType) -> None:
    executor = plugin.Executor
    query, run_jobs = plugin.query_job_status, executor.run_jobs
    check, report = executor.check_active_jobs, executor.report_job_submission
    os.environ.setdefault("SLURM_BITSTR_LEN", "0")  # do not truncate lists of tasks
    tasks: set[str] = set()
    missed: set[str] = set()

    @functools.wraps(query)
    async def query_job_status(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await query(command.replace("JobIdRaw", "JobId"), logger)
        if not states:
            return states, seconds
        found = by_task(states)
        lost = lost_tasks(tasks, found)
        # Accounting may register a task slightly later than it leaves the list.
        sure = lost if command.startswith("squeue") else lost & missed
        missed.clear()
        missed.update(lost)
        return {**found, **dict.fromkeys(sure, "CANCELLED")}, seconds

    @functools.wraps(run_jobs)
    def run_jobs_in_arrays(self: Any, jobs: list[Job]) -> None:
        arrays, others = in_arrays(jobs, self.array_jobs)
        run_jobs(self, others)  # first, because it stores the event loop that submissions are reported in
        for array in arrays:
            if len(array) == 1:
                self._submit_job(array[0])
            else:
                self._submit_array_jobs(array)

    @functools.wraps(check)
    async def check_active_jobs(self: Any, active_jobs: list[SubmittedJobInfo]) -> AsyncIterator[SubmittedJobInfo]:
        tasks.clear()
        tasks.update(str(job.external_jobid) for job in active_jobs if "_" in str(job.external_jobid))
        async for job in check(self, active_jobs):
            yield job
        self.next_seconds_between_status_checks = min(self.next_seconds_between_status_checks, MOST_S)

    @functools.wraps(report)
    def report_job_submission(self: Any, job_info: SubmittedJobInfo, register_job: bool = True) -> None:
        if "_" in str(job_info.external_jobid):
            log = self.slurm_logdir / f"rule_{job_info.job.name}" / f"{job_info.external_jobid}.log"
            job_info.aux["slurm_logfile"] = log
        report(self, job_info, register_job)

    plugin.query_job_status = query_job_status
    executor.run_jobs = run_jobs_in_arrays
    executor.check_active_jobs = check_active_jobs
    executor.report_job_submission = report_job_submission


def by_task(states: Mapping[str, str]) -> dict[str, str]:
    """Reduce states to one word, and expand waiting arrays: ``{"1_[2-3]": "PENDING"}`` gives two tasks."""
    found = {}
    for number, state in states.items():
        waiting = _WAITING.fullmatch(number)
        numbers = [f"{waiting[1]}_{task}" for task in _tasks(waiting[2])] if waiting else [number]
        found.update(dict.fromkeys(numbers, state.partition(" ")[0]))
    return found


def _tasks(listed: str) -> Iterator[int]:
    """Task numbers in a list such as ``1,4-6,8-12:2``."""
    for part in listed.split(","):
        ends, _, step = part.partition(":")
        first, _, last = ends.partition("-")
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def lost_tasks(tasks: Iterable[str], states: Mapping[str, str]) -> set[str]:
    """Tasks that are not listed although others of their arrays are: they were cancelled while waiting.

    Arrays with a truncated list are ignored.
    """
    arrays = {number.partition("_")[0] for number in states if "_" in number}
    cut = {number.partition("_")[0] for number in states if "[" in number}
    return {task for task in tasks if task not in states and task.partition("_")[0] in arrays - cut}


def in_arrays(jobs: list[Job], rules: set[str]) -> tuple[list[list[Job]], list[Job]]:
    """Group jobs to be submitted into arrays.

    Parameters
    ----------
    rules
        Names of the rules whose jobs form arrays, or ``all``.

    Returns
    -------
    The arrays (each of jobs of one rule with equal resources, possibly a single job), and the other jobs.
    """
    alike: dict[tuple, list[Job]] = defaultdict(list)
    others = []
    for job in jobs:
        if job.is_group() or rules.isdisjoint({"all", job.rule.name}):
            others.append(job)
        else:
            asked = sorted((name, str(value)) for name, value in job.resources.items())
            alike[job.rule.name, job.threads, *asked].append(job)
    return list(alike.values()), others


def own_command(plugin: ModuleType, arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return the shell command of this task of an array; None if this process already runs it.

    Parameters
    ----------
    plugin
        Snakemake's jobstep plugin, which reads its option.
    arguments
        Of this process.
    """
    others = _EXECS.search(" ".join(arguments))
    commands = plugin.parse_array_execs(others[1]) if others else {}
    compressed = commands.get(environment.get("SLURM_ARRAY_TASK_ID", ""))
    return zlib.decompress(bytes.fromhex(compressed)).decode() if compressed else None


def _mend_step(plugin: ModuleType) -> None:
    executor = plugin.Executor
    run_job, format_job_exec = executor.run_job, executor.format_job_exec

    @functools.wraps(run_job)
    def run_job_as_step(self: Any, job: Job) -> None:
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        if task is not None and task == os.environ.get("SLURM_ARRAY_TASK_MIN"):
            self.job_array_task = False
        run_job(self, job)

    @functools.wraps(format_job_exec)
    def format_without_others(self: Any, job: Job) -> str:
        return _EXECS.sub("", format_job_exec(self, job))

    executor.run_job = run_job_as_step
    executor.format_job_exec = format_without_others
