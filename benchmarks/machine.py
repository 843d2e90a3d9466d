"""The machine and the software, as stored with every result."""

from __future__ import annotations

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
    """A file name for the machine, e.g. ``amd-epyc-2-cores``."""
    name = machine["name"] + ("" if "gpu" in machine else f" {machine['cores']} cores")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def software() -> dict[str, Any]:
    """Package versions and the commit of the code."""
    return {"versions": provenance.versions(), "commit": provenance.commit()}


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()
