"""Editing the configuration while SLURM jobs wait and run: jobs use the settings from the start of the run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import copy_to
from finished import FILES, inside
from slurm_cluster import Cluster, snakemake, started, until

from three_regime.config import load
from three_regime.study.grid import planned
from three_regime.study.verdicts import unfit

STUDY = {
    "temperatures": [4],
    "densities": [0.5],
    "replicas": [1, 2],
    "resources": {stage: {"gpu": 0, "mem_mb": 1000, "runtime": 60} for stage in ("dense", "retrain", "lmc", "cka")},
}
EDITED = {"retrain": {"learning_rate": 0.05}, "measure": {"points": 5}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started(accounting=False) as cluster:
        yield cluster


def test_an_edit_while_cluster_jobs_run_mixes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    checkout = copy_to(tmp_path / "checkout")
    overlay = checkout.path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"studies": {"tiny": STUDY}}))
    log = tmp_path / "log"
    options = ("--configfile", "config/tiny.yaml", "overlay.yaml")
    with open(log, "w") as stream:
        process = subprocess.Popen(
            snakemake("profiles/slurm-no-accounting", "tables", *options), cwd=checkout.path, stdout=stream,
            stderr=stream, env=cluster.environment(**checkout.environment()),
        )  # fmt: skip

        def submitted() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            return any(job.get("Comment", "").startswith("rule_") for job in cluster.jobs().values())

        try:
            until(submitted, "the first job on the cluster")
            overlay.write_text(yaml.safe_dump({"studies": {"tiny": {**STUDY, **EDITED}}}))
            code = process.wait(600)
        finally:
            process.kill()
    assert code == 0, log.read_text()[-3000:]
    folder = checkout.path / "results/tiny"
    (frozen,) = (folder / "logs/runs").iterdir()
    assert "overlay.yaml: edited during this run" in log.read_text()
    results = [json.loads(path.read_text()) for path in sorted((folder / "tiny").rglob("*.json"))]
    assert {result["provenance"]["run"] for result in results} == {str(frozen.relative_to(checkout.path))}
    assert len(pd.read_csv(folder / "tiny/lines.csv")) == 11
    with inside(checkout):
        (of_the_run,) = planned(load([frozen]))
        assert unfit(of_the_run) == []
        (edited,) = planned(load([*FILES, Path("overlay.yaml")]))
        reasons = {finding.reason for finding in unfit(edited) if finding.product.stage == "retrain"}
    assert reasons == {"training.learning_rate from 0.1 to 0.05"}, "from the next start on the edit counts"
