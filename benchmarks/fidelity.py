"""`python -m benchmarks.fidelity`: compare one cell on real CIFAR-10 with compiled kernels and with torch alone.

The kernels round differently, and training amplifies rounding until two runs differ as much as two seeds do. The two
implementations are therefore compared over dense seeds: the mean difference of each measure against the spread
between seeds under torch alone.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pandas as pd
import yaml
from tabulate import tabulate

from benchmarks import machine
from benchmarks.setting import CHECKOUT, rebuild_cifar10
from three_regime.logs import reporting
from three_regime.system.files import read_json, write_json

NAME = "fidelity"
WAYS = {"kernels": "auto", "torch": "plain"}
MEASURES: dict[str, tuple[str, Callable[[dict[str, Any]], float]]] = {
    "dense test error": ("dense.json", lambda result: result["test"]["error"]),
    "test error, retrained": ("retrained.json", lambda result: result["test_error"]),
    "LMC": ("lmc.json", lambda result: result["lmc"]),
    "CKA, softmax": ("cka.json", lambda result: result["softmax"]),
}
"""Measures compared: glob of the files and reader of each."""
STAGES = ("prepare", "dense", "prune", "retrain", "lmc", "cka")
RESULTS = Path(__file__).resolve().parent / "results"

log = logging.getLogger(__name__)


def configuration(seeds: Sequence[int], quick: bool) -> dict[str, Any]:
    """Return the study: PreResNet-20 at one temperature and density, two replicas; `quick`: 256 images, one epoch."""
    images, epochs = (256, 1) if quick else (4000, 6)
    study = {
        "dataset": {"name": "cifar10", "train_images": images, "test_images": images // 2},
        "model": "preresnet-20",
        "knob": "epochs",
        "temperatures": [epochs],
        "densities": [0.1],
        "dense_seeds": list(seeds),
        "replicas": [1, 2],
        "dense": {"epochs": epochs, "milestones": [] if quick else [4]},
        "retrain": {"epochs": epochs, "milestones": [] if quick else [4]},
        "measure": {"train_images": images // 4, "cka_images": images // 4, "last_epochs": 1},
    }
    return {"run": [NAME], "threads": 1, "published": False, "studies": {NAME: study}}


def run(folder: Path, seeds: Sequence[int], quick: bool) -> tuple[pd.DataFrame, dict[str, float]]:
    """Compute the study both ways in `folder`; return the measures (`measured`) and the seconds of each."""
    rebuild_cifar10(folder / "offline")
    shutil.copy(CHECKOUT / "config.yaml", folder)
    frames, seconds = [], {}
    for way, kernels in WAYS.items():
        began = time.perf_counter()
        file = folder / f"{way}.yaml"
        settings = {**configuration(seeds, quick), "results": way, "kernels": kernels}
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        for stage in STAGES:
            log.info("%s: %s", way, stage)
            command = [sys.executable, "-m", "three_regime", "run-stage", stage, "--configfile", str(file)]
            environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
            subprocess.run(command, cwd=folder, env=environment, check=True)
        seconds[way] = round(time.perf_counter() - began, 1)
        frames.append(measured(folder / way / NAME).assign(way=way))
    return pd.concat(frames), seconds


def measured(study: Path) -> pd.DataFrame:
    """Average each measure over the replicas or pairs of a dense seed; columns ``measure``, ``seed``, ``value``."""
    rows = [
        {"measure": measure, "seed": seed.name, "value": value(read_json(path))}
        for seed in sorted(study.glob("seed*"))
        for measure, (file, value) in MEASURES.items()
        for path in sorted(seed.rglob(file))
    ]
    return pd.DataFrame(rows).groupby(["measure", "seed"], sort=False, as_index=False).mean()


def compare(values: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the means, their difference with its standard error over dense seeds, and torch's spread over seeds."""
    rows = []
    for measure, group in values.groupby("measure", sort=False):
        by_way = group.pivot(index="seed", columns="way", values="value")
        difference = by_way["kernels"] - by_way["torch"]
        rows.append(
            {
                "measure": measure,
                "kernels": by_way["kernels"].mean(),
                "torch": by_way["torch"].mean(),
                "difference": difference.mean(),
                "standard_error": difference.sem(),
                "torch_between_seeds": by_way["torch"].std(),
            }
        )
    return pd.DataFrame(rows)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--seeds", type=click.IntRange(2), default=3, show_default=True, help="Number of dense seeds.")
@click.option("--quick", is_flag=True, help="Tiny sizes, to check that it runs; results are meaningless.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: benchmarks/results/<machine>-fidelity.json; none for --quick.")  # fmt: skip  # noqa: E501
def main(seeds: int, quick: bool, out: Path | None) -> None:
    """Compute one cell with compiled kernels and with torch alone over dense seeds, and compare the measures."""
    here = machine.describe("cpu")
    with reporting(), tempfile.TemporaryDirectory() as folder:
        values, seconds = run(Path(folder), range(1, seeds + 1), quick)
        table = compare(values)
        click.echo(tabulate(table, headers="keys", tablefmt="github", floatfmt=".4f", showindex=False))
        click.echo(f"seconds: {seconds}")
        if out is None and not quick:
            out = RESULTS / f"{machine.slug(here)}-fidelity.json"
        if out is not None:
            content = {
                "machine": here,
                **machine.software(),
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
                "study": configuration(range(1, seeds + 1), quick)["studies"][NAME],
                "seconds": seconds,
                "comparison": table.to_dict("records"),
                "values": values.to_dict("records"),
            }
            write_json(out, content)
            log.info("written to %s", out)


if __name__ == "__main__":
    main()
