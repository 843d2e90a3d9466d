"""Jobs on a real SLURM with accounting, queried by `sacct`, under profiles/slurm adapted as its comments say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from checkout import Checkout
from finished import OPTIONS, copied
from slurm_cluster import started, until

LOST = [Path(f"results/tiny/tiny/seed1/epochs00{epochs}/density010/pair1-2/cka.json") for epochs in (2, 4)]


def test_jobs_are_accounted_for_and_a_cancelled_one_runs_again(complete_tiny: Checkout, tmp_path: Path) -> None:
    checkout = copied(complete_tiny, tmp_path / "checkout")
    before = [json.loads((checkout.path / lost).read_text()) for lost in LOST]
    for lost in LOST:
        (checkout.path / lost).unlink()
    profile = checkout.path / "profiles/slurm/config.yaml"
    text = profile.read_text()
    assert "\n# - slurm_account=ME " in text
    profile.write_text(text.replace("\n# - slurm_account=ME ", "\n  - slurm_account=dev "))
    with started(accounting=True) as cluster:
        environment = cluster.environment(**checkout.environment())
        generate = Path(sys.executable).parent / "generate-slurm-partition-config"
        made = subprocess.run([generate], env=environment, capture_output=True, text=True, check=True, timeout=60)
        partitions = yaml.safe_load(made.stdout)
        assert set(partitions["partitions"]) == {"gpu", "preempt", "short"}
        del partitions["partitions"]["gpu"], partitions["partitions"]["preempt"]
        (checkout.path / "profiles/slurm/partitions.yaml").write_text(yaml.safe_dump(partitions))
        command = [sys.executable, "-m", "three_regime", "workflow", "--workflow-profile", "profiles/slurm"]
        command += ["--slurm-status-command", "sacct", "--slurm-init-seconds-before-status-checks", "3"]
        log = tmp_path / "log"
        nodes = f"NodeName={','.join(cluster.nodes)}"
        cluster.ask("scontrol", "update", nodes, "State=DRAIN", "Reason=test")
        with open(log, "w") as stream:
            process = subprocess.Popen(
                [*command, *map(str, LOST), *OPTIONS], cwd=checkout.path, env=environment, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
        try:
            until(lambda: process.poll() is not None or cluster.jobs(), "the array to wait in the queue")
            cluster.ask("scancel", "1_1")
            until(lambda: "Trying to restart job" in log.read_text(), "the cancelled task to be noticed", 60)
            cluster.ask("scontrol", "update", nodes, "State=RESUME")
            assert process.wait(300) == 0, log.read_text()[-4000:]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        told = cluster.ask("sacct", "-X", "-n", "-P", "-o", "JobID,Account,Partition,State,ExitCode").splitlines()
        # Versions of SLURM differ in whether they keep a task that was cancelled while it waited.
        ended = [line for line in told if not line.startswith("1_1|")]
        (again,) = (line.split("|")[0] for line in ended if "_" not in line.split("|")[0])
        assert sorted(ended) == sorted(["1_2|dev|short|COMPLETED|0:0", f"{again}|dev|short|COMPLETED|0:0"])
    after = [json.loads((checkout.path / lost).read_text()) for lost in LOST]
    assert all(result.pop("provenance") for result in [*before, *after])
    assert after == before
