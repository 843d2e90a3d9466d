"""Reproduction of "A Three-regime Model of Network Pruning" (Zhou, Yang, Chang, Mahoney; ICML 2023).

Importing this package, or any module that the Snakefile needs, never imports torch.

In a notebook, ``three_regime.load_results("results/demo")`` loads every table (`three_regime.analysis.load`).
"""

from __future__ import annotations

from typing import Any

from three_regime.system import former_places

__version__ = "0.1.0"

former_places.install()


def __getattr__(name: str) -> Any:
    """Import `load_results` on first use, so the command line does not load pandas."""
    if name == "load_results":
        from three_regime.analysis.load import load_results

        return load_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
