"""The machine and the software, as stored with every result."""

from __future__ import annotations

import functools
import platform
import re
from pathlib import Path
from typing import Any

import psutil

from three_regime.study import provenance


def describe(device: str) -> dict[str, Any]:
    """Processor, cores, memory, and the GPU where `device` is one."""
    machine = {
        "name": _processor(),
        "cpu": _processor(),
        "vectors": _vectors(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
    }
    if device != "cpu":
        import torch

        properties = torch.cuda.get_device_properties(0)
        machine |= {
            "name": properties.name,
            "gpu": properties.name,
            "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
        }
    return machine


def slug(machine: dict[str, Any]) -> str:
    """A file name for the machine, e.g. ``amd-epyc-avx2-2-cores``."""
    name = machine["name"] + ("" if "gpu" in machine else f" {machine['vectors']} {machine['cores']} cores")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def software() -> dict[str, Any]:
    """Package versions and the commit of the code."""
    return {"versions": provenance.versions(), "commit": provenance.commit()}


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _vectors() -> str:
    """The widest vector instructions, on which the compiled kernels' rates depend; empty if unknown."""
    flags = set(_cpuinfo().split())
    return next((name for name, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags), "")


@functools.cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
