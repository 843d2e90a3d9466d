"""Before a run of Snakemake: ask for confirmation of many hours of work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from three_regime.config import Config, load
from three_regime.errors import UserError
from three_regime.workflow.arguments import computes, configfiles, targets_of

ASK_ABOVE_H = 10.0
"""Hours of work (GPU hours plus CPU core hours) above which the user is asked (this project's choice)."""


def ask(arguments: Sequence[str]) -> None:
    """Ask for confirmation, on a terminal, before more than ``ASK_ABOVE_H`` hours of work; ``YES=1`` confirms.

    Without a terminal, as in batch systems, nothing is asked.

    Raises
    ------
    UserError
        When the user declines.
    """
    answered = os.environ.get("YES", "") not in ("", "0")
    if answered or not computes(arguments) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    # Overrides by `--config` are ignored, because the price is only approximate.
    files = configfiles(["--other" if argument in ("--config", "-C") else argument for argument in arguments]) or []
    work = price(load(files), targets_of(arguments))
    if not work:
        return
    print(f"{work} (`python -m three_regime plan` lists it). Start? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("nothing was started")


def price(config: Config, targets: Sequence[str]) -> str:
    """Describe the work for `targets` if it is unknown or more than ``ASK_ABOVE_H`` hours; else empty.

    Parameters
    ----------
    targets
        Snakemake's targets; single result files of a study are not priced.
    """
    from three_regime.planning.plan import make
    from three_regime.planning.plan_table import worked
    from three_regime.planning.pricing import RATES, read_rates

    rates = read_rates(RATES)
    known = [name for target in targets for name in _planned(config, target)]
    if rates is None or (targets and not known):
        return ""
    plan = make(config, known, rates)
    gpu, cpu = (seconds / 3600 for seconds in worked(plan))
    parts = [f"{gpu:,.0f} GPU hours"] if gpu >= 1 else []
    parts += [f"{cpu:,.0f} CPU core hours"] if cpu >= 1 else []
    parts += [f"{', '.join(plan.untimed)}, of unknown length"] if plan.untimed else []
    return f"this run takes about {' and '.join(parts)}" if gpu + cpu > ASK_ABOVE_H or plan.untimed else ""


def _planned(config: Config, target: str) -> list[str]:
    """Targets of `three_regime.planning.plan` for `target`; for a table, figure or report, the studies behind it."""
    from three_regime.planning.explain import studies_behind
    from three_regime.planning.plan import wanted

    try:
        wanted(config, [target])
    except UserError:
        return [study.name for study in studies_behind(config, Path(target)) or ()]
    return [target]
