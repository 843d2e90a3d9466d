"""Benchmark item ``sparse``: a retraining step and an LMC line by density, with three interleaved methods.

The methods are the sparse engine, the compiled kernels (used at high density) and the conventional loop, whose cost
does not depend on the mask.
"""

from __future__ import annotations

import ctypes
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from benchmarks.timing import QUIET, Others, wait_for_quiet

if TYPE_CHECKING:
    from benchmarks.suite import Bench

log = logging.getLogger("three_regime.benchmarks")

DENSITIES = (0.05, 0.07, 0.1, 0.2, 0.4, 0.8, 1.0)
TARGETS = {0.05: (3.6, 8.0), 0.07: (3.5, 7.5), 0.1: (3.0, 6.0), 0.2: (2.1, 4.5), 0.4: (1.4, 3.0), 0.8: (1.0, 2.2)}
"""Density → target speed-ups over the compiled kernels and over the conventional loop; none for dense training."""
LMC_DENSITY = 0.07
GROWTH = (("preresnet-20", 32), ("preresnet-20", 128), ("preresnet-20x2", 64))
"""Networks and batch sizes in addition to PreResNet-20 and 64."""


def measure(bench: Bench, densities: Sequence[float]) -> dict[str, Any]:
    """Measure every part of the item; log one line per density."""
    from benchmarks import conventional, pipeline

    quick = bench.plan.quick
    model, steps = ("preresnet-8x0.25", 2) if quick else ("preresnet-20", 6)
    where = bench.setting("cifar10", model, 640 if quick else 2048, 64)
    workers = 1
    rows = []
    for density in densities[:1] if quick else densities:
        row = _rounds(bench, {
            "sparse": lambda density=density: bench.ours(pipeline.pruned_step_s, where, steps, density, True),
            "present": lambda density=density: bench.ours(pipeline.pruned_step_s, where, steps, density, False),
            "usual": lambda: bench.usual(conventional.loop_step_s, where, workers, steps),
        })  # fmt: skip
        rows.append({"density": density, **row})
        log.info("%s", line(rows[-1]))
    found = {"what": f"training step of {model} by density", "densities": rows}
    if LMC_DENSITY not in densities:
        return found
    lmc_images = (128, 64) if quick else (512, 256)
    lmc_where = bench.setting("cifar10", model, *lmc_images)
    lmc = _rounds(bench, {
        way: lambda way=way: bench.ours(pipeline.pruned_lmc_s, lmc_where, 3, LMC_DENSITY, way == "sparse")
        for way in ("sparse", "present")
    })  # fmt: skip
    log.info("LMC at %g %%: %.2f times the present kernels", 100 * LMC_DENSITY, lmc["against_present"])
    return {
        **found,
        "lmc": {"density": LMC_DENSITY, "points": 3, **lmc},
        "growth": [] if quick else [_growth(bench, *each) for each in GROWTH],
        "ceilings": bench.ours(ceilings),
        "work": bench.ours(pipeline.pruned_work, where, densities),
        "peak_mb": bench.ours(pipeline.peak_mb),
    }


def _rounds(bench: Bench, ways: dict[str, Callable[[], float]]) -> dict[str, Any]:
    """Time each method once per round, rotating the first; return medians, and median ratios to the first method."""
    names, rounds = list(ways), []
    for number in range(bench.plan.pairs):
        wait_for_quiet(bench.plan.patience_s)
        turn = number % len(names)
        with Others() as others:
            seconds = {name: ways[name]() for name in names[turn:] + names[:turn]}
        rounds.append({**seconds, "others": others.cores})
    found: dict[str, Any] = {name: statistics.median(each[name] for each in rounds) for name in names}
    for name in names[1:]:
        ratios = [each[name] / each[names[0]] for each in rounds]
        found[f"against_{name}"] = statistics.median(ratios)
        found[f"range_{name}"] = [min(ratios), max(ratios)]
    return {**found, "disturbed": any(each["others"] >= QUIET for each in rounds), "rounds": rounds}


def _growth(bench: Bench, model: str, batch: int) -> dict[str, Any]:
    """Measure steps of another width or batch size at the density of the LMC pair."""
    from benchmarks import pipeline

    where = bench.setting("cifar10", model, 12 * batch, 64)
    found = _rounds(bench, {
        way: lambda way=way: bench.ours(pipeline.pruned_step_s, where, 4, LMC_DENSITY, way == "sparse", batch)
        for way in ("sparse", "present")
    })  # fmt: skip
    return {"model": model, "batch": batch, "density": LMC_DENSITY, **found}


def line(row: dict[str, Any]) -> str:
    """Format a density's timings, the two ratios last."""
    times = ", ".join(f"{name} {1e3 * row[name]:.1f} ms" for name in ("sparse", "present", "usual"))
    return f"density {row['density']:g}: {times}; {row['against_present']:.2f}, {row['against_usual']:.2f}"


def table(item: dict[str, Any]) -> str:
    """Return a Markdown table of the densities."""
    rows = []
    for row in item["densities"]:
        ratios = [
            f"{row[f'against_{way}']:.2f} ({row[f'range_{way}'][0]:.2f} to {row[f'range_{way}'][1]:.2f})"
            for way in ("present", "usual")
        ]
        aims = [f"{aim:g}" for aim in TARGETS.get(row["density"], ())] or ["", ""]
        times = [f"{1e3 * row[way]:.1f} ms" for way in ("sparse", "present", "usual")]
        rows.append([f"{row['density']:.0%}", *times, *ratios, *aims, "yes" if row["disturbed"] else ""])
    headers = ["density", "engine", "present kernels", "usual loop", "against present", "against usual",
               "aim", "aim", "disturbed"]  # fmt: skip
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def ceilings() -> dict[str, float]:
    """Measure the limits of one core: register fused multiply-adds (GFLOP/s) and memory copies (GB/s)."""
    from three_regime import kernels

    library = kernels.library()
    if library is None:
        return {}
    peak = library.functions.sparse_peak
    peak.restype, peak.argtypes = ctypes.c_double, [ctypes.c_long]
    repeats = 1 << 22
    began = time.perf_counter()
    operations = peak(repeats)
    flops = operations / (time.perf_counter() - began)
    source = np.ones(1 << 25, np.float32)
    target = np.zeros_like(source)
    began = time.perf_counter()
    np.copyto(target, source)
    return {"gflops": flops / 1e9, "copy_gb_per_s": 2 * source.nbytes / (time.perf_counter() - began) / 1e9}
