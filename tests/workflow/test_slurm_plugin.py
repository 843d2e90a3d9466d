"""Patches of Snakemake's SLURM plugin; `cluster/test_slurm.py` has the real SLURM."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as submitting

from three_regime.workflow import slurm_plugin
from three_regime.workflow.slurm_plugin import by_task, in_arrays, lost_tasks

within = sys.modules["snakemake_executor_plugin_slurm_jobstep"]


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    """The real plugins, patched for one test."""
    names = ("run_jobs", "check_active_jobs", "report_job_submission")
    seams = [(submitting, "query_job_status"), *((submitting.Executor, name) for name in names)]
    seams += [(within.Executor, "run_job"), (within.Executor, "format_job_exec")]
    before = [(place, name, getattr(place, name)) for place, name in seams]
    slurm_plugin.mend()
    slurm_plugin.mend()
    assert all(getattr(place, name).__wrapped__ is old for place, name, old in before)
    yield
    for place, name, old in before:
        setattr(place, name, old)


def job(rule: str = "retrain_tiny", *, threads: int = 1, group: bool = False, **resources: Any) -> SimpleNamespace:
    """A job with the attributes that the plugin reads."""
    return SimpleNamespace(
        name=rule, rule=SimpleNamespace(name=rule), threads=threads, resources=resources, is_group=lambda: group
    )


def test_an_array_is_of_one_rule_and_equal_requests() -> None:
    first = [job(mem_mb=1000, runtime=10) for _ in range(3)]
    again = [job(mem_mb=2000, runtime=20) for _ in range(2)]  # a second attempt
    other = job("lmc_tiny", mem_mb=1000, runtime=10)
    wider = job(mem_mb=1000, runtime=10, threads=2)
    arrays, others = in_arrays([first[0], again[0], other, *first[1:], wider, again[1]], {"all"})
    assert arrays == [first, again, [other], [wider]]
    assert not others


def test_only_the_named_rules_have_arrays_and_no_groups() -> None:
    named, other, grouped = job("lmc_tiny"), job("cka_tiny"), job("lmc_tiny", group=True)
    assert in_arrays([named, other, grouped], {"lmc_tiny"}) == ([[named]], [other, grouped])
    assert in_arrays([named, other], set()) == ([], [named, other])


def test_no_job_is_lost_when_the_queue_is_full() -> None:
    """Unpatched, the plugin waits for jobs that Snakemake submits only after the previous ones have finished."""
    executor = submitting.Executor.__new__(submitting.Executor)
    executor.logger, executor._main_event_loop = logging.getLogger("test"), None
    executor.array_jobs, executor.max_array_size = {"all"}, 50
    jobs = [job(mem_mb=1000) for _ in range(3)]
    later = [job(mem_mb=1000) for _ in range(90)]
    executor.workflow = SimpleNamespace(dag=SimpleNamespace(ready_jobs=later))
    submitted: list[list] = []
    executor._submit_job = lambda one: submitted.append([one])
    executor._submit_array_jobs = submitted.append
    executor.run_jobs(jobs)
    executor.run_jobs(later[:1])
    assert submitted == [jobs, later[:1]]


@pytest.mark.parametrize(
    ("printed", "states"),
    [
        ("7|CANCELLED by 0\\n8_2|COMPLETED\\n", {"7": "CANCELLED", "8_2": "COMPLETED"}),
        ("JobIdRaw|RUNNING\\n", {"JobId": "RUNNING"}),  # as sacct is asked
        ("", {}),
    ],
)
def test_states_are_one_word_by_the_numbers_that_were_noted(printed: str, states: dict[str, str]) -> None:
    found, seconds = asyncio.run(submitting.query_job_status(f"printf '{printed}'", logging.getLogger("test")))
    assert found == states
    assert seconds >= 0


def test_waiting_tasks_are_told_apart() -> None:
    states = {"1_[2,4-6%3]": "PENDING", "1_3": "RUNNING", "2_[1-5:2]": "CANCELLED by 0", "7": "COMPLETED"}
    pending = dict.fromkeys(("1_2", "1_4", "1_5", "1_6"), "PENDING")
    cancelled = dict.fromkeys(("2_1", "2_3", "2_5"), "CANCELLED")
    assert by_task(states) == {**pending, "1_3": "RUNNING", **cancelled, "7": "COMPLETED"}


def test_a_task_that_was_cancelled_while_it_waited_is_missing() -> None:
    found = by_task({"1_[2-3]": "PENDING", "4_[1-2,...]": "PENDING"})
    assert lost_tasks({"1_1", "1_2", "4_9", "5_1"}, found) == {"1_1"}


@pytest.mark.parametrize(("program", "questions"), [("squeue", 1), ("sacct", 2)])
def test_a_missing_task_is_called_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, questions: int
) -> None:
    """Immediately if SLURM's controller was queried, else when it is missing again."""
    (tmp_path / program).write_text("#!/bin/sh\necho '1_[2-3]|PENDING'\n")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(submitting, "get_min_job_age", lambda: None)
    monkeypatch.setattr(submitting, "is_query_tool_available", lambda name: name == program)
    executor = submitting.Executor.__new__(submitting.Executor)
    settings = SimpleNamespace(status_attempts=1, init_seconds_before_status_checks=3, status_command=program)
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.run_uuid, executor.logger = "run", logging.getLogger("test")
    executor.status_rate_limiter = contextlib.nullcontext()
    executor.next_seconds_between_status_checks = 3
    executor._status_query_calls, executor._status_query_failures = 0, 0
    executor._status_query_total_seconds = executor._status_query_max_seconds = 0.0
    executor._status_query_min_seconds, executor._status_query_cycle_rows = None, []
    failed: list[str] = []
    executor.report_job_error = lambda info, **_: failed.append(info.external_jobid)
    monkeypatch.setattr(submitting.subprocess, "check_output", lambda *_, **__: "")
    jobs = [SimpleNamespace(external_jobid=f"1_{task}", aux={}) for task in (1, 2, 3)]

    async def check() -> list[str]:
        return [each.external_jobid async for each in executor.check_active_jobs(jobs)]

    for question in range(1, questions + 1):
        left = asyncio.run(check())
        assert failed == (["1_1"] if question == questions else [])
        assert left == [job.external_jobid for job in jobs if job.external_jobid not in failed]


def test_a_query_that_fails_stays_one() -> None:
    assert asyncio.run(submitting.query_job_status("false", logging.getLogger("test"))) == (None, None)


def test_states_are_asked_for_within_a_minute() -> None:
    class Executor:
        next_seconds_between_status_checks = 170
        run_jobs = report_job_submission = None

        async def check_active_jobs(self, active_jobs: list) -> AsyncIterator:
            self.next_seconds_between_status_checks += 10
            for each in active_jobs:
                yield each

    jobs = [SimpleNamespace(external_jobid=number) for number in ("7", "8_1")]

    async def asked(executor: Executor) -> list:
        return [each async for each in executor.check_active_jobs(jobs)]

    plugin = ModuleType("plugin")
    plugin.Executor, plugin.query_job_status = Executor, None
    slurm_plugin._mend_submitting(plugin)
    executor = Executor()
    assert asyncio.run(asked(executor)) == jobs
    assert executor.next_seconds_between_status_checks < 60


def test_the_log_of_a_task_is_where_slurm_writes_it() -> None:
    executor = submitting.Executor.__new__(submitting.Executor)
    executor.slurm_logdir, executor.active_jobs, executor.lock = Path("logs"), [], threading.Lock()
    executor.workflow = SimpleNamespace(scheduler=SimpleNamespace(submit_callback=lambda job: None))
    noted = Path("logs/rule_retrain_tiny/1_epochs001/12_3.log")
    for number in ("12_3", "13"):
        info = SimpleNamespace(job=job(), external_jobid=number, aux={"slurm_logfile": noted})
        executor.report_job_submission(info, register_job=False)
    logs = [info.aux["slurm_logfile"] for info in executor.active_jobs]
    assert logs == [Path("logs/rule_retrain_tiny/12_3.log"), noted]


@pytest.mark.parametrize(("task", "is_array"), [("4", False), ("5", True)])
def test_the_first_task_is_a_step_as_the_others_are(monkeypatch: pytest.MonkeyPatch, task: str, is_array: bool) -> None:
    """Signals of a preemption reach steps alone."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "4")
    executor = within.Executor.__new__(within.Executor)
    executor.job_array_task, executor.gpu_job = True, None

    def stop(*_: object) -> None:
        raise RuntimeError("as far as this test goes")

    monkeypatch.setattr(within, "get_cpu_setting", stop)
    executor.workflow = SimpleNamespace(executor_settings=SimpleNamespace(array_execs="x"))
    executor.logger = logging.getLogger("test")
    monkeypatch.setattr(within, "_decompress_array_task_call", stop)
    with pytest.raises(RuntimeError):
        executor.run_job(job())
    assert executor.job_array_task is is_array


@pytest.mark.parametrize("value", ["'eyIyIjogIjc4In0='", "eyIyIjogIjc4In0="])
def test_a_step_does_not_carry_the_commands_of_the_other_tasks(value: str) -> None:
    class Executor:
        run_job = None

        def format_job_exec(self, job: object) -> str:
            return f"python -m snakemake --cores 1 --slurm-jobstep-array-execs {value} --mode remote"

    slurm_plugin._mend_step(SimpleNamespace(Executor=Executor))
    assert Executor().format_job_exec(job()) == "python -m snakemake --cores 1 --mode remote"


COMMANDS = {"2": "python -m snakemake --target-jobs 'lmc_tiny:seed=2'", "3": "python -m snakemake --target-jobs x"}


def started_as_first(form: str = "--slurm-jobstep-array-execs={}") -> list[str]:
    """Arguments of a task's Snakemake as the plugin submits it."""
    compressed = {task: zlib.compress(command.encode()).hex() for task, command in COMMANDS.items()}
    option = form.format(base64.b64encode(json.dumps(compressed).encode()).decode())
    return ["snakemake", "--target-jobs", "lmc_tiny:seed=1", *option.split(), "--mode", "remote"]


@pytest.mark.parametrize("form", ["--slurm-jobstep-array-execs={}", "--slurm-jobstep-array-execs '{}'"])
@pytest.mark.parametrize(("task", "command"), [(None, None), ("1", None), *COMMANDS.items()])
def test_a_task_becomes_its_own_command(form: str, task: str | None, command: str | None) -> None:
    environment = {"SLURM_ARRAY_TASK_ID": task} if task else {}
    assert slurm_plugin.own_command(within, started_as_first(form), environment) == command
    assert slurm_plugin.own_command(within, ["snakemake", "--mode", "remote"], environment) is None


def test_the_process_of_a_task_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(within.Executor, "run_job", within.Executor.run_job.__wrapped__)
    monkeypatch.setattr(sys, "argv", started_as_first())
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    became = []
    monkeypatch.setattr(os, "execv", lambda *program: became.append(program))
    slurm_plugin.mend()
    assert became == [("/bin/sh", ["sh", "-c", COMMANDS["2"]])]


def test_without_the_plugins_nothing_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, submitting.__name__)
    monkeypatch.delitem(sys.modules, within.__name__)
    slurm_plugin.mend()
