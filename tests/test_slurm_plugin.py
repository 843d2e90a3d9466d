"""What is mended in Snakemake's SLURM plugin; `test_slurm.py` has the real SLURM."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as submitting

from three_regime import slurm_plugin
from three_regime.slurm_plugin import in_arrays

within = sys.modules["snakemake_executor_plugin_slurm_jobstep"]


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    """The real plugins, mended for one test."""
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
    """What the plugin asks of a job."""
    return SimpleNamespace(
        name=rule, rule=SimpleNamespace(name=rule), threads=threads, resources=resources, is_group=lambda: group
    )


def test_an_array_is_of_one_rule_and_of_jobs_that_ask_for_the_same() -> None:
    first = [job(mem_mb=1000, runtime=10) for _ in range(3)]
    again = [job(mem_mb=2000, runtime=20) for _ in range(2)]  # a second attempt
    other = job("lmc_tiny", mem_mb=1000, runtime=10)
    wider = job(mem_mb=1000, runtime=10, threads=2)
    arrays, others = in_arrays([first[0], again[0], other, *first[1:], wider, again[1]], {"all"})
    assert arrays == [first, again, [other], [wider]]
    assert not others


def test_arrays_are_of_the_rules_that_were_named_and_not_of_groups() -> None:
    named, other, grouped = job("lmc_tiny"), job("cka_tiny"), job("lmc_tiny", group=True)
    assert in_arrays([named, other, grouped], {"lmc_tiny"}) == ([[named]], [other, grouped])
    assert in_arrays([named, other], set()) == ([], [named, other])


def test_no_job_is_lost_while_more_are_ready_than_the_queue_takes() -> None:
    """The plugin alone waits for jobs that Snakemake gives it only when those that it was given have ended."""
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

    async def asked(executor: Executor) -> list:
        return [each async for each in executor.check_active_jobs([1, 2])]

    plugin = ModuleType("plugin")
    plugin.Executor, plugin.query_job_status = Executor, None
    slurm_plugin._mend_submitting(plugin)
    executor = Executor()
    assert asyncio.run(asked(executor)) == [1, 2]
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


def test_without_the_plugins_nothing_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, submitting.__name__)
    monkeypatch.delitem(sys.modules, within.__name__)
    slurm_plugin.mend()
