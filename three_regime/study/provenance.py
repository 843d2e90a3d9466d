"""Provenance of a result: settings, versions, device, commit, wall time."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from three_regime import kernels
from three_regime.kernels import Kernels
from three_regime.system.places import CHECKOUT

PACKAGES = ("torch", "torchvision", "numpy", "safetensors", "snakemake", "fairseq", "ve-fairseq", "sacrebleu", "pandas")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can change numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str:
    """Git commit of the code, with ``+changes`` if tracked files are modified; ``unknown`` outside a checkout."""
    folder = CHECKOUT
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+changes" if changed else "")


def record(
    *,
    fingerprint: str,
    recipe: dict[str, Any],
    inputs: dict[str, str],
    device: str,
    threads: int,
    wall_s: float,
    together: int = 0,
    run: Mapping[str, str] | None = None,
    computed_with: Kernels | None = None,
) -> dict[str, Any]:
    """Provenance block stored with a computed result.

    Parameters
    ----------
    inputs
        Role → tensor digest.
    wall_s
        Seconds of wall time spent on this result, over all interruptions.
    together
        Number of networks computed together, this one included; 0 if each is computed alone.
    run
        Entries about the workflow run (`runs.Run.record`).
    computed_with
        Kernels used; None: those of this process.
    """
    return {
        "fingerprint": fingerprint,
        "origin": "computed",
        "recipe": recipe,
        "inputs": inputs,
        "versions": versions(),
        "commit": commit(),
        "device": device,
        "threads": threads,
        "together": together,
        "kernels": computed_with or kernels.in_use(),
        "machine": platform.machine(),
        "host": platform.node(),
        "wall_s": round(wall_s, 3),
        **(run or {}),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def record_of_elsewhere(*, fingerprint: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """Provenance block of a result that other code computed on an unknown machine: it names none of this machine."""
    return {
        "fingerprint": fingerprint,
        "recipe": recipe,
        "inputs": {},
        "versions": {},
        "device": "elsewhere",
        "wall_s": 0.0,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
