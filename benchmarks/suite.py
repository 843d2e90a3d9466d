"""Benchmark items and their report."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks import machine, setting, sparse
from benchmarks.setting import CHECKOUT, Setting
from benchmarks.timing import compare, wait_for_quiet
from three_regime.config import load
from three_regime.datasets.registry import DATASETS
from three_regime.system.device import choose
from three_regime.system.files import read_json, write_arrays, write_json

log = logging.getLogger("three_regime.benchmarks")

WORKERS = (1, 2, 4)
TARGETS = {"training": 2.0, "lmc": 3.0, "cka": 50.0, "fairseq training": 1.4, "fairseq decoding": 1.3}
PLANNING_TARGETS_S = {"figure2": 15.0, "paper": 20.0}

RATED = tuple(density for density in sparse.DENSITIES if density < 1)
"""Densities of relative times in the item `rates`."""

DEMO = "preresnet-8x0.25"
PACKS = [
    *(("digits", DEMO, members) for members in (1, 3, 9, 27)),
    *(("digits", model, 9) for model in ("preresnet-8x0.5", "preresnet-8", "preresnet-20x0.5", "preresnet-8x2")),
    ("cifar10", "preresnet-20", 3),
]
"""Data set, network and pack sizes of the item `packs`; smallest first, because peak memory only grows."""

Call = Callable[..., Any]
Item = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Options of a benchmark run (see ``python -m benchmarks --help``)."""

    items: Sequence[str]
    quick: bool
    device: str
    threads: int
    pairs: int
    patience_s: float
    densities: Sequence[float] = ()


@dataclass(frozen=True)
class Bench:
    """A benchmark run on this machine: data files, and a process for each side.

    Each side has its own process, because the pipeline changes how its process retains memory
    (`three_regime.system.cpu_memory`).
    """

    plan: Plan
    device: str
    cifar10: Path
    digits: Path
    ours: Call
    usual: Call

    def setting(self, dataset: str, model: str, train_images: int, test_images: int) -> Setting:
        file = self.digits if dataset == "digits" else self.cifar10
        return Setting(file, dataset, model, self.device, self.plan.threads, train_images, test_images)

    def compare(self, ours: Callable[[], float], usual: Callable[[], float]) -> Item:
        return compare(ours, usual, pairs=self.plan.pairs, patience_s=self.plan.patience_s)

    def best_workers(self, seconds: Callable[[int], float]) -> tuple[int, dict[str, float]]:
        """Find the fastest number of loader workers; return it and the seconds for each."""
        tried = {}
        for workers in WORKERS[:1] if self.plan.quick else WORKERS:
            wait_for_quiet(self.plan.patience_s)
            tried[workers] = seconds(workers)
        return min(tried, key=tried.__getitem__), {str(workers): value for workers, value in tried.items()}


def run(plan: Plan, out: Path | None, command: str) -> None:
    """Run the benchmarks, print the table and write the JSON files."""
    device = choose(plan.device)
    about = machine.describe(device)
    items: dict[str, Item] = {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder, _sides() as (ours, usual):
        cifar10, data = (
            _random_file(Path(folder)) if plan.quick else setting.cifar10_file(Path(folder))
        )  # fmt: skip
        bench = Bench(plan, device, cifar10, _digits_file(Path(folder)), ours, usual)
        for name in plan.items:
            log.info("measuring: %s", name)
            items[name] = MEASURE[name](bench)
    result = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": plan.quick,
        "machine": about,
        "device": device,
        "threads": plan.threads,
        "data": data,
        **machine.software(),
        "items": items,
    }
    print(table(items))
    out = out or (None if plan.quick else CHECKOUT / "benchmarks" / "results" / f"{machine.slug(about)}.json")
    if out is not None:
        write_json(out, result)
        log.info("written to %s", out)
    if "rates" in items and not plan.quick:
        path = CHECKOUT / "benchmarks" / "rates" / f"{machine.slug(about)}.json"
        measured = {"text_models": read_json(path).get("text_models", {})} if path.is_file() else {}
        write_json(path, {**rates_file(result), **measured})  # benchmarks.translation adds to this file
        log.info("rates written to %s", path)


def rates_file(result: dict[str, Any]) -> dict[str, Any]:
    """The rates in the format read by ``python -m three_regime plan``."""
    return {
        "device": result["device"],
        "measured": result["date"][:10],
        "machine": result["machine"],
        "threads": result["threads"],
        "commit": result["commit"],
        "models": result["items"]["rates"]["models"],
    }


def training(bench: Bench) -> Item:
    """One training step of PreResNet-20, batch 64, CIFAR-10 images."""
    quick = bench.plan.quick
    where = bench.setting("cifar10", "preresnet-8x0.25" if quick else "preresnet-20", 640 if quick else 8192, 64)
    return _training(bench, where, 2 if quick else 30)


def demo_training(bench: Bench) -> Item:
    """One training step of the demo's network, batch 64, digits."""
    return _training(bench, bench.setting("digits", "preresnet-8x0.25", 1437, 64), 2 if bench.plan.quick else 16)


def _training(bench: Bench, where: Setting, steps: int) -> Item:
    from benchmarks import conventional, pipeline

    workers, tried = bench.best_workers(lambda count: bench.usual(conventional.training_step_s, where, count, steps))
    found = bench.compare(
        lambda: bench.ours(pipeline.training_step_s, where, steps),
        lambda: bench.usual(conventional.training_step_s, where, workers, steps),
    )
    bench.usual(conventional.release)
    return {
        "what": f"training step, {where.model}, {where.dataset}, batch {setting.BATCH}",
        "against": f"PIL transforms in {workers} loader worker(s), contiguous, eager",
        **found,
        "workers": workers,
        "workers_tried_s": tried,
    }


def lmc(bench: Bench) -> Item:
    """One line of 11 points: BatchNorm re-estimation, training error and test error at each."""
    from benchmarks import conventional, pipeline

    quick = bench.plan.quick
    points = 3 if quick else 11
    images = (128, 64) if quick else (1024, 512)
    where = bench.setting("cifar10", "preresnet-8x0.25" if quick else "preresnet-20", *images)
    workers, tried = bench.best_workers(lambda count: bench.usual(conventional.lmc_s, where, count, 3)[0])
    found = bench.compare(
        lambda: bench.ours(pipeline.lmc_s, where, points)[0],
        lambda: bench.usual(conventional.lmc_s, where, workers, points)[0],
    )
    errors = bench.ours(pipeline.lmc_s, where, 3)[1], bench.usual(conventional.lmc_s, where, workers, 3)[1]
    bench.usual(conventional.release)
    return {
        "what": f"LMC line, {points} points, {where.model}, {images[0]} training and {images[1]} test images",
        "against": f"evaluation through {workers} loader worker(s)",
        **found,
        "workers": workers,
        "workers_tried_s": tried,
        "train_errors_of_3_points": {"ours": errors[0], "usual": errors[1]},
    }


def cka(bench: Bench) -> Item:
    """CKA of 10-dimensional outputs, without the forward passes."""
    from benchmarks import conventional, pipeline

    images, features = (512 if bench.plan.quick else 6464), 10
    found = bench.compare(
        lambda: bench.ours(pipeline.cka_s, images, features, 20),
        lambda: bench.usual(conventional.cka_s, images, features),
    )
    return {
        "what": f"CKA of {images} x {features} outputs, feature space",
        "against": f"{images} x {images} Gram matrices, float64",
        **found,
    }


def planning(bench: Bench) -> Item:
    """``snakemake --dry-run`` of Figure 2."""
    return _planning(bench, "figure2", ["--configfile", "config/figure2.yaml"])


def planning_paper(bench: Bench) -> Item:
    """``snakemake --dry-run`` of the whole configuration."""
    return _planning(bench, "paper", [])


def _planning(bench: Bench, what: str, overlay: list[str]) -> Item:
    """Time a dry run in a copy of the checkout without data and results."""
    if bench.plan.quick:
        overlay = ["--configfile", "config/tiny.yaml"]
    seconds = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        copy = Path(folder) / "checkout"
        away = shutil.ignore_patterns(
            ".git", ".snakemake", ".venv", "__pycache__", "results", "data", "offline", ".pytest_cache", "*.egg-info"
        )
        shutil.copytree(CHECKOUT, copy, ignore=lambda at, names: away(at, names) if Path(at) == CHECKOUT else ())
        for _ in range(1 if bench.plan.quick else 3):
            wait_for_quiet(bench.plan.patience_s)
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "snakemake", "--dry-run", *overlay],
                cwd=copy, check=True, capture_output=True, text=True,
            )  # fmt: skip
            seconds.append(time.perf_counter() - began)
    jobs = re.search(r"^total\s+(\d+)", done.stdout + done.stderr, re.MULTILINE)
    return {
        "what": f"DAG planning, {'tiny' if bench.plan.quick else what}",
        "seconds": seconds,
        "ours": statistics.median(seconds),
        "jobs": int(jobs[1]) if jobs else None,
        "target_s": PLANNING_TARGETS_S[what],
    }


def packs(bench: Bench) -> Item:
    """Networks trained together against one at a time, by number of members and network size."""
    from benchmarks import pipeline
    from three_regime.models.sizes import size

    tried = PACKS[:1] if bench.plan.quick else PACKS
    found = []
    for dataset, model, members in tried:
        images = 1437 if dataset == "digits" else 640
        where = bench.setting(dataset, model, images, 64)
        steps = 2 if bench.plan.quick else min(12, images // setting.BATCH - 5)
        log.info("%d networks %s together", members, model)
        measured = bench.compare(
            functools.partial(bench.ours, pipeline.pack_step_s, where, steps, members),
            functools.partial(bench.ours, pipeline.training_step_s, where, steps),
        )
        entry = where.entry
        adds = size(
            model, classes=entry.classes, channels=entry.channels, image_size=entry.image_size
        ).multiply_adds  # fmt: skip
        about = {"model": model, "dataset": dataset, "members": members, "multiply_adds": adds}
        fastest = {side: min(pair[side] for pair in measured["pairs"]) for side in ("ours", "usual")}
        found.append({**about, **measured, "fastest": fastest, "peak_mb": bench.ours(pipeline.peak_mb)})
    return {"what": "training step and member, advanced together", "against": "one at a time", "packs": found}


def rates(bench: Bench) -> Item:
    """Images per second of every network in the configuration, for ``python -m three_regime plan``."""
    from benchmarks import pipeline

    quick = bench.plan.quick
    wanted = [("digits", DEMO, 1437, 64 if quick else 360)]
    wanted += [] if quick else [("cifar10", model, 1024, 256) for model in _models()]
    found = {}
    for dataset, model, *images in wanted:
        log.info("rates of %s", model)
        wait_for_quiet(bench.plan.patience_s)
        where, steps = bench.setting(dataset, model, *images), 2 if quick else 3
        found[model] = bench.ours(pipeline.image_rates, where, steps, RATED[:1] if quick else RATED)
    return {"what": "images a second", "models": found}


def pruned(bench: Bench) -> Item:
    """Retraining by density (`benchmarks.sparse`)."""
    return sparse.measure(bench, bench.plan.densities or sparse.DENSITIES)


def fairseq(bench: Bench) -> Item:
    """Parity with fairseq's command line, and the relative speed of training and beam search."""
    from benchmarks import fairseq as sides

    plan = bench.plan
    return {
        "what": "translation: the project's trainer and beam search",
        "against": "fairseq's Trainer and SequenceGenerator",
        **sides.measure(plan.quick, plan.threads, plan.pairs, plan.patience_s, bench.ours, bench.usual),
    }


MEASURE: dict[str, Callable[[Bench], Item]] = {
    "training": training,
    "demo-training": demo_training,
    "lmc": lmc,
    "cka": cka,
    "planning": planning,
    "planning-paper": planning_paper,
    "packs": packs,
    "sparse": pruned,
    "rates": rates,
    "fairseq": fairseq,
}


def table(items: dict[str, Item]) -> str:
    """Return the results as Markdown tables: comparisons, then packs, sparse steps and rates where measured."""
    rows = [
        [
            item["what"],
            _seconds(item["ours"]),
            _seconds(item["usual"]) if "usual" in item else "",
            f"{item['ratio']:.2f} ({item['ratios'][0]:.2f} to {item['ratios'][1]:.2f})" if "ratio" in item else "",
            f"at least {TARGETS[name]:g}" if name in TARGETS else _limit(item),
            "yes" if item.get("disturbed") else "",
        ]
        for name, item in items.items()
        if "ours" in item
    ]
    parts = []
    if rows:
        parts.append(tabulate(rows, ["what", "ours", "usual way", "ratio", "target", "disturbed"], tablefmt="github"))
    if "packs" in items:
        parts.append(_packs_table(items["packs"]["packs"]))
    if "sparse" in items:
        parts.append(sparse.table(items["sparse"]))
    if "fairseq" in items:
        parts.append(_fairseq_table(items["fairseq"]))
    if "rates" in items:
        models = items["rates"]["models"]
        columns = ("train_images_per_s", "together_images_per_s", "evaluate_images_per_s", "reestimate_images_per_s")
        parts.append(
            tabulate(
                [[name, *(found.get(column) for column in columns)] for name, found in models.items()],
                ["images a second", "train", "train, together", "evaluate", "re-estimate"],
                tablefmt="github",
            )
        )
    return "\n\n".join(parts)


def _fairseq_table(item: Item) -> str:
    rows = [
        [
            f"{what}, {item['model']}, {item['corpus']}",
            item[name]["ours_per_s"],
            item[name]["usual_per_s"],
            f"{item[name]['ratio']:.2f} ({item[name]['ratios'][0]:.2f} to {item[name]['ratios'][1]:.2f})",
            f"at least {TARGETS[f'fairseq {name}']:g}",
            "yes" if item[name]["disturbed"] else "",
        ]
        for name, what in (("training", "target tokens trained"), ("decoding", "sentences, beam 4"))
    ]
    headers = ["a second", "ours", "fairseq", "ratio", "target", "disturbed"]
    parity = (
        f"Binaries equal: {'yes' if item['binaries_equal'] else 'no'}; largest difference after three updates:"
        f" {item['update_difference']:.1e}; hypotheses equal: {item['hypotheses_equal']} of {item['sentences']}."
    )
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True) + f"\n\n{parity}"


def _packs_table(packs: list[Item]) -> str:
    rows = [
        [
            f"{pack['model']}, {pack['dataset']}",
            f"{pack['multiply_adds']:,}",
            pack["members"],
            _seconds(pack["usual"]),
            _seconds(pack["ours"]),
            f"{pack['ratio']:.2f} ({pack['ratios'][0]:.2f} to {pack['ratios'][1]:.2f})",
            f"{pack['fastest']['usual'] / pack['fastest']['ours']:.2f}",
            f"{pack['peak_mb']:.0f}",
            "yes" if pack["disturbed"] else "",
        ]
        for pack in packs
    ]
    headers = ["network", "multiply-adds", "members", "alone", "each together", "ratio", "of the fastest", "peak MB",
               "disturbed"]  # fmt: skip
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _limit(item: Item) -> str:
    return f"at most {item['target_s']:g} s" if "target_s" in item else ""


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _models() -> list[str]:
    """Return the configuration's networks on 32-pixel images, in its order, and that of the CPU-sized studies."""
    studies = load([CHECKOUT / "config.yaml", CHECKOUT / "config/cifar10-cpu.yaml"]).studies.values()
    return list(dict.fromkeys(s.model for s in studies if getattr(s.dataset.entry, "image_size", 0) == 32))


def _random_file(folder: Path) -> tuple[Path, str]:
    path = folder / "random.safetensors"
    write_arrays(path, setting.random_images(DATASETS["cifar10"], 640, 64), {})
    return path, "random pixels and labels in the shape of CIFAR-10"


def _digits_file(folder: Path) -> Path:
    path = folder / "digits.safetensors"
    write_arrays(path, DATASETS["digits"].read(folder), {})
    return path


@contextlib.contextmanager
def _sides() -> Iterator[tuple[Call, Call]]:
    """Yield two functions, each of which calls a function in a fresh process and returns its value."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh) as ours, ProcessPoolExecutor(1, fresh) as usual:
        yield (lambda *call: ours.submit(*call).result(), lambda *call: usual.submit(*call).result())
