"""The tiny study on a real SLURM: GPUs, arrays, preemption, time limit, drained node, and equality with a local run.

All tests share one study. Its dense job is cancelled by hand; its three retraining jobs run at once as the tasks of
one array: one is preempted, one reaches its time limit, and the node of the third is drained.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import finished
import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_to
from slurm_cluster import GRACE_S, Cluster, Watch, gpus_of, name_of, snakemake, started, until

from three_regime.analysis import tables
from three_regime.errors import UserError
from three_regime.preparation.prepare import prepare
from three_regime.study.stages import STAGES
from three_regime.system.files import read_arrays, read_metadata, tensor_digest

STUDY = {
    "temperatures": [1, 2, 4],
    "densities": [0.5],
    "replicas": [1, 2],
    "lockstep": 32,  # the CPU engine, which `auto` would choose, ends before a job can be hit
    "retrain": {"epochs": 1200, "milestones": [2], "evaluate_every": 150},
    "resources": {stage: {"gpu": 1, "mem_mb": 1000, "runtime": 60} for stage in ("dense", "retrain", "lmc", "cka")},
}
"""Changes to the tiny study: retraining takes a minute at least, long enough to be hit also on fast processors."""

CONFIG = ("--configfile", "config/tiny.yaml", "overlay.yaml")
RETRAIN = "rule_retrain_tiny_wildcards_1_epochs{:03d}"
EPOCHS = 3
"""Retraining epochs that must have been saved before a job is hit."""


@dataclass(frozen=True)
class Hit:
    """A retraining job that something was done to: its temperature, SLURM number and name, node, and the epoch saved
    before.
    """

    temperature: int
    number: int
    name: str
    node: str
    epoch: int


@dataclass(frozen=True)
class Run:
    """Output and records of the run."""

    checkout: Checkout
    local: Checkout
    output: str
    code: int
    watch: Watch
    preempted: Hit
    limited: Hit
    drained: Hit


def checkout_in(folder: Path) -> Checkout:
    """Return a checkout with the overlay and the profile adapted as its comments say."""
    checkout = copy_to(folder)
    (checkout.path / "overlay.yaml").write_text(yaml.safe_dump({"studies": {"tiny": STUDY}}))
    profile = checkout.path / "profiles/slurm-no-accounting/config.yaml"
    text = profile.read_text()
    assert "\n# - gpu_model=h200 " in text
    profile.write_text(text.replace("\n# - gpu_model=h200 ", "\n  - gpu_model=h200 "))
    partition = {"max_runtime": "1-00:00:00", "max_mem_mb": 16000, "max_threads": 8, "max_gpu": 2}
    partitions = {"preempt": {**partition, "available_gpu_models": ["h200"]}, "gpu": {"max_runtime": 1}}
    (checkout.path / "profiles/slurm/partitions.yaml").write_text(yaml.safe_dump({"partitions": partitions}))
    return checkout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started(accounting=False) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def run(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The complete run, and the same study computed on this machine."""
    folder = tmp_path_factory.mktemp("slurm")
    checkout = checkout_in(folder / "cluster")
    log = folder / "log"
    with open(log, "w") as stream, Watch(cluster) as watch:
        # In two parts, so that all retraining jobs are ready at once.
        with running(cluster, checkout, "pruned", stream) as process:
            cluster.ask("scancel", str(until(lambda: dense_job(cluster, process, log), "the dense job")))
            assert process.wait(300) == 0, log.read_text()[-4000:]
        with running(cluster, checkout, "tables", stream) as process:
            hits = hit(cluster, checkout, process, log)
            local = compute_here(copy_to(folder / "local"))
            code = process.wait(900)
    return Run(checkout, local, log.read_text(), code, watch, *hits)


@contextlib.contextmanager
def running(cluster: Cluster, checkout: Checkout, target: str, stream: IO[str]) -> Iterator[subprocess.Popen]:
    """Run Snakemake in the background with output to `stream`; kill it at the end."""
    process = subprocess.Popen(
        snakemake("profiles/slurm-no-accounting", target, *CONFIG),
        cwd=checkout.path, env=cluster.environment(**checkout.environment()), stdout=stream, stderr=stream,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def dense_job(cluster: Cluster, process: subprocess.Popen, log: Path) -> int | None:
    """Return the number of the dense job once it runs."""
    assert process.poll() is None, log.read_text()[-4000:]
    jobs = cluster.jobs().items()
    return next((number for number, job in jobs if is_of("dense", job) and job["JobState"] == "RUNNING"), None)


def is_of(stage: str, job: dict[str, str]) -> bool:
    return job.get("Comment", "").startswith(f"rule_{stage}_")


def hit(cluster: Cluster, checkout: Checkout, process: subprocess.Popen, log: Path) -> tuple[Hit, Hit, Hit]:
    """Wait until the three retraining jobs have saved some epochs; preempt one, end the time of one, drain a node."""

    def under_way() -> dict[int, Hit]:
        assert process.poll() is None, log.read_text()[-4000:]
        found = {}
        jobs = cluster.jobs()
        for temperature in STUDY["temperatures"]:
            number = number_of(checkout, temperature)
            job = jobs.get(number, {})
            if job.get("JobState") == "RUNNING":
                epoch = saved_epoch(checkout, temperature)
                found[number] = Hit(temperature, number, name_of(job), job["NodeList"], epoch)
        return found if len(found) == 3 and all(job.epoch >= EPOCHS for job in found.values()) else {}

    jobs = until(under_way, "three retraining jobs with a saved state", 400)
    nodes = [job.node for job in jobs.values()]
    (alone,) = [node for node in cluster.nodes if nodes.count(node) == 1]
    (full,) = [node for node in cluster.nodes if nodes.count(node) == 2]
    (drained,) = [job for job in jobs.values() if job.node == alone]
    cluster.ask("scontrol", "update", f"NodeName={alone}", "State=DRAIN", "Reason=test")
    preempted, limited = sorted((job for job in jobs.values() if job.node == full), key=lambda job: job.name)
    cluster.ask("scontrol", "update", f"JobId={limited.name}", "EndTime=now+1")
    until(lambda: cluster.jobs()[limited.number]["JobState"] == "TIMEOUT", "the end of the time limit")
    # A job of higher priority needs both GPUs of the node.
    needs = ("-p", "gpu", "-w", full, "--gpus=2", "--mem=100", "-t", "1")
    cluster.ask("sbatch", *needs, "-o", "/dev/null", "--wrap", "true")

    def requeued() -> bool:
        job = cluster.jobs()[preempted.number]
        assert job["JobState"] != "COMPLETED", "it ended before it could be preempted"
        return job["JobState"] == "PENDING" and job["Restarts"] == "1"

    # It does not wait for the end of its grace time, nor does it fail, which would cost one of Snakemake's retries.
    until(requeued, "the preempted job to be queued again", GRACE_S / 2)
    # SLURM lets a requeued job wait for two minutes; the test does not.
    cluster.ask("scontrol", "update", f"JobId={preempted.name}", "StartTime=now")
    return preempted, limited, drained


def number_of(checkout: Checkout, temperature: int) -> int | None:
    """SLURM's number of a retraining job that has begun to compute, as its log has it; no array tells its tasks so."""
    path = checkout.path / f"results/tiny/logs/retrain/tiny/seed1-epochs{temperature:03d}.log"
    found = re.search(r"SLURM_JOB_ID (\d+)", path.read_text()) if path.exists() else None
    return int(found[1]) if found else None


def saved_epoch(checkout: Checkout, temperature: int) -> int:
    """Completed epochs in the saved state of the first replica; 0 where there is none."""
    cell = checkout.path / f"results/tiny/.state/tiny/seed1/epochs{temperature:03d}/density050/replica1"
    try:
        return json.loads(read_metadata(cell / "retrain.state.safetensors")["state"])["epoch"]
    except UserError:  # none yet, or just being replaced
        return 0


def compute_here(checkout: Checkout) -> Checkout:
    """The same study by the library alone."""
    with finished.inside(checkout):
        config = finished.tiny(**STUDY)
        prepare("digits", Path(config.data.folder))
        for stage in STAGES:
            finished.compute(config, stage)
        tables.write(finished.study_of(config))
    return checkout


def weights(checkout: Checkout) -> dict[str, str]:
    """Path → digest of the tensors of every checkpoint."""
    root = checkout.path / "results/tiny/tiny"
    return {str(path.relative_to(root)): tensor_digest(read_arrays(path)) for path in root.rglob("*.safetensors")}


def log_of(run: Run, temperature: int) -> str:
    """The last attempt's log of a retraining job."""
    return (run.checkout.path / f"results/tiny/logs/retrain/tiny/seed1-epochs{temperature:03d}.log").read_text()


def failures(run: Run) -> str:
    """Snakemake's messages about failed jobs, each with the end of the job's own output."""
    return "\n".join(part[:4000] for part in re.split(r"(?m)^(?=Error in rule |Logfile )", run.output)[1:])


def continued_at(run: Run, temperature: int) -> tuple[int, int]:
    """Replica and completed epochs with which the last attempt of a retraining job began to compute."""
    began = r"replica (\d)(?: and \d+ more)?: continues after epoch (\d+), step \d+"
    found = re.search(began, log_of(run, temperature))
    if found:
        return int(found[1]), int(found[2])
    kept = re.search(r"\d+ computed, (\d+) kept", log_of(run, temperature))
    assert kept, log_of(run, temperature)
    return int(kept[1]) + 1, 0


def test_it_ends_well_and_no_profile_finds_anything_to_do(run: Run, cluster: Cluster) -> None:
    assert run.code == 0, run.output[-4000:]
    for profile in ("profiles/slurm-no-accounting", "profiles/slurm", "profiles/default"):
        command = [sys.executable, "-m", "three_regime", "workflow", "--workflow-profile", profile]
        ended = subprocess.run(
            [*command, "--dry-run", "tables", *CONFIG], cwd=run.checkout.path, capture_output=True, text=True,
            env=cluster.environment(**run.checkout.environment()), timeout=120,
        )  # fmt: skip
        assert "Nothing to be done" in ended.stdout + ended.stderr, ended.stdout + ended.stderr


def test_results_are_those_of_a_local_run(run: Run) -> None:
    assert len(weights(run.local)) == 3 + 3 + 6
    assert weights(run.checkout) == weights(run.local)
    for table in ("cells", "replicas", "pairs", "lines", "curves", "sparsity"):
        ours, theirs = (pd.read_csv(each.path / f"results/tiny/tiny/{table}.csv") for each in (run.checkout, run.local))
        pd.testing.assert_frame_equal(ours, theirs)


def test_gpus_are_asked_for_and_never_shared(run: Run) -> None:
    most = 0
    for running in run.watch.running():
        held = [gpu for job in running.values() for gpu in gpus_of(job)]
        assert len(held) == len(set(held)), running
        most = max(most, len(held))
    assert most >= 3
    for moment in run.watch.seen:
        for job in moment.values():
            asks = bool(re.match("rule_(dense|retrain|lmc|cka)_", job.get("Comment", "")))
            if job.get("Comment", "").startswith("rule_"):
                assert (job.get("TresPerJob") == "gres:gpu:h200:1") == asks, job
                assert job["Partition"] == "preempt"
                assert job["CPUs/Task"] == "1"


def test_each_job_uses_the_device_that_it_was_given(run: Run) -> None:
    given = {}
    for running in run.watch.running():
        given.update({number: index for number, job in running.items() for _, index in gpus_of(job)})
    for temperature in STUDY["temperatures"]:
        found = re.search(r"CUDA_VISIBLE_DEVICES=(\S+), as the batch system chose \(SLURM_JOB_ID (\d+)\)",
                          log_of(run, temperature))  # fmt: skip
        assert found, log_of(run, temperature)
        assert given[int(found[2])] == found[1]


def test_a_preempted_job_continues_from_its_state(run: Run) -> None:
    job = run.watch.last()[run.preempted.number]
    assert (job["Restarts"], job["JobState"]) == ("1", "COMPLETED")
    assert continued_at(run, run.preempted.temperature) >= (1, run.preempted.epoch) >= (1, EPOCHS)


def test_a_job_at_its_time_limit_gets_more_and_continues(run: Run) -> None:
    comment = RETRAIN.format(run.limited.temperature)
    last = run.watch.last().items()
    numbers = [run.limited.number]
    numbers += [number for number, job in last if job.get("Comment") == comment and "ArrayJobId" not in job]
    assert [run.watch.last()[number]["JobState"] for number in numbers] == ["TIMEOUT", "COMPLETED"]
    assert continued_at(run, run.limited.temperature) >= (1, run.limited.epoch) >= (1, EPOCHS)
    first, second = (
        next(moment[number] for moment in run.watch.seen if number in moment) for number in numbers
    )  # as submitted
    assert (first["TimeLimit"], second["TimeLimit"]) == ("01:00:00", "02:00:00")
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("1001M", "2000M")  # an array's commands take some


def test_jobs_that_are_ready_together_are_one_array(run: Run) -> None:
    for stage in ("prune", "retrain"):
        jobs = [job for job in run.watch.last().values() if is_of(stage, job) and "ArrayTaskId" in job]
        assert len({job["ArrayJobId"] for job in jobs}) == 1
        assert {job["ArrayTaskId"] for job in jobs if job["ArrayTaskId"].isdigit()} == {"1", "2", "3"}
    assert {run.preempted.name.split("_")[0], run.limited.name.split("_")[0]} == {run.drained.name.split("_")[0]}


def test_a_cancelled_job_is_noticed_and_submitted_again(run: Run) -> None:
    first, second = (job for _, job in sorted(run.watch.last().items()) if is_of("dense", job))
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    noticed = datetime.fromisoformat(second["SubmitTime"]) - datetime.fromisoformat(first["EndTime"])
    assert noticed.total_seconds() < 60


def test_a_job_on_a_drained_node_ends_there_and_no_other_comes(run: Run) -> None:
    job = run.watch.last()[run.drained.number]
    assert (job["JobState"], job["Restarts"], job["NodeList"]) == ("COMPLETED", "0", run.drained.node), failures(run)
    assert "continues after" not in log_of(run, run.drained.temperature)
    later = [job for number, job in run.watch.last().items() if number > run.drained.number + 2]
    assert len(later) >= 6
    assert run.drained.node not in {job["NodeList"] for job in later}
