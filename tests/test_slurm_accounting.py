"""A job on a real SLURM with accounting: profiles/slurm as its comments say to adapt it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checkout import Checkout
from finished import OPTIONS, copied
from slurm_cluster import started

pytestmark = pytest.mark.slow

LOST = Path("results/tiny/tiny/seed1/epochs004/density010/pair1-2/cka.json")


def test_a_job_is_accounted_for(complete_tiny: Checkout, tmp_path: Path) -> None:
    checkout = copied(complete_tiny, tmp_path / "checkout")
    before = json.loads((checkout.path / LOST).read_text())
    (checkout.path / LOST).unlink()
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
        command += ["--slurm-init-seconds-before-status-checks", "3", str(LOST), *OPTIONS]
        process = subprocess.Popen(
            command, cwd=checkout.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            output = process.communicate(timeout=400)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == 0, output[-4000:]
        fields = ("-X", "-n", "-P", "-o", "Account,Partition,State,ExitCode")
        assert cluster.ask("sacct", *fields).splitlines() == ["dev|short|COMPLETED|0:0"]
    after = json.loads((checkout.path / LOST).read_text())
    assert after.pop("provenance") and before.pop("provenance")
    assert after == before
