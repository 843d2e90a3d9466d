"""Snakemake's SLURM plugin, mended where it loses jobs (seen in 2.8.0 and its jobstep plugin 0.6.1).

- **Arrays** (``slurm-array-jobs``): the plugin drops what it was given while more jobs of the rule are ready than fit
  into the queue (``jobs``), and Snakemake waits for them for ever; all tasks get the resources of the first, whatever
  they asked for. Here an array is made of jobs of one rule that were given together and ask for the same.
- **State of a job**: ``sacct`` prints ``CANCELLED by 0``, which the plugin takes for running, and raw numbers, among
  which that of an array is the number of one of its tasks. Here states are one word, by the numbers that were noted.
  Of an array that waits, SLURM prints one line (``1_[2-3]``), in which a cancelled task is just not there.
- **Intervals**: the plugin asks ever more rarely, down to every 180 s. Here a job's end is noticed within a minute.
- **First task of an array**: it computes outside a job step, where no signal of a preemption arrives. Here it is a step
  as the others are.
- **Log of a task**: the plugin notes another path than it gives to SLURM.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
    from snakemake_interface_executor_plugins.jobs import JobExecutorInterface as Job

MOST_S = 40
"""Most seconds between two questions for the state of jobs: the plugin's own first interval."""

_WAITING = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
"""Tasks of an array that wait, as SLURM lists them."""

_EXECS = re.compile(r"\s--slurm-jobstep-array-execs(=|\s+)\S+")
"""Commands of the other tasks, in one word of Base64."""


def mend() -> None:
    """Mend the plugins that Snakemake has loaded, in this process from now on; without them, nothing."""
    submitting = sys.modules.get("snakemake_executor_plugin_slurm")
    if submitting is not None and not hasattr(submitting.query_job_status, "__wrapped__"):
        _mend_submitting(submitting)
    within = sys.modules.get("snakemake_executor_plugin_slurm_jobstep")
    if within is not None and not hasattr(within.Executor.run_job, "__wrapped__"):
        _mend_step(within)


def _mend_submitting(plugin: ModuleType) -> None:
    executor = plugin.Executor
    query, run_jobs = plugin.query_job_status, executor.run_jobs
    check, report = executor.check_active_jobs, executor.report_job_submission
    os.environ.setdefault("SLURM_BITSTR_LEN", "0")  # lists of tasks are not cut short
    tasks: set[str] = set()
    missed: set[str] = set()

    @functools.wraps(query)
    async def query_job_status(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await query(command.replace("JobIdRaw", "JobId"), logger)
        if not states:
            return states, seconds
        found = by_task(states)
        lost = lost_tasks(tasks, found)
        # The accounting may learn of a task that leaves the list a moment later than of the list.
        sure = lost if command.startswith("squeue") else lost & missed
        missed.clear()
        missed.update(lost)
        return {**found, **dict.fromkeys(sure, "CANCELLED")}, seconds

    @functools.wraps(run_jobs)
    def run_jobs_in_arrays(self: Any, jobs: list[Job]) -> None:
        arrays, others = in_arrays(jobs, self.array_jobs)
        run_jobs(self, others)  # first: it notes the loop in which submissions are reported
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
    """States in one word, and those of waiting arrays by task: ``{"1_[2-3]": "PENDING"}`` has two of them."""
    found = {}
    for number, state in states.items():
        waiting = _WAITING.fullmatch(number)
        numbers = [f"{waiting[1]}_{task}" for task in _tasks(waiting[2])] if waiting else [number]
        found.update(dict.fromkeys(numbers, state.partition(" ")[0]))
    return found


def _tasks(listed: str) -> Iterator[int]:
    """The numbers in ``1,4-6,8-12:2``."""
    for part in listed.split(","):
        ends, _, step = part.partition(":")
        first, _, last = ends.partition("-")
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def lost_tasks(tasks: Iterable[str], states: Mapping[str, str]) -> set[str]:
    """Those of `tasks` that are in no list, although others of their arrays are: cancelled while they waited.

    An array of which a list was cut short is left out.
    """
    arrays = {number.partition("_")[0] for number in states if "_" in number}
    cut = {number.partition("_")[0] for number in states if "[" in number}
    return {task for task in tasks if task not in states and task.partition("_")[0] in arrays - cut}


def in_arrays(jobs: list[Job], rules: set[str]) -> tuple[list[list[Job]], list[Job]]:
    """Divide jobs that are to be submitted now.

    Parameters
    ----------
    rules
        Names of the rules whose jobs are to form arrays, or ``all``.

    Returns
    -------
    Jobs of one rule that ask for the same resources, for each array (of one job, perhaps), and the other jobs.
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
