"""Before a run of Snakemake: where it works, whether its settings are there, and whether hours of work are meant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from three_regime.config import Config, load
from three_regime.errors import UserError
from three_regime.workflow.arguments import computes, configfiles, targets_of

ASK_ABOVE_H = 10.0
"""Hours of work (of a GPU, or of one CPU core) from which on a person is asked (this project's choice)."""


def ask(arguments: Sequence[str]) -> None:
    """Ask once, on a terminal, before more than ``ASK_ABOVE_H`` hours of work; ``YES=1`` is the answer beforehand.

    Without a terminal nothing is asked: batch systems have none.

    Raises
    ------
    UserError
        When the answer is no.
    """
    answered = os.environ.get("YES", "") not in ("", "0")
    if answered or not computes(arguments) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    # What `--config` changes is left out: it is a few settings, and the price a round number.
    files = configfiles(["--other" if argument in ("--config", "-C") else argument for argument in arguments]) or []
    work = price(load(files), targets_of(arguments))
    if not work:
        return
    print(f"{work} (`python -m three_regime plan` lists it). Start? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("nothing was started")


def price(config: Config, targets: Sequence[str]) -> str:
    """The work for `targets` in words where it is more than ``ASK_ABOVE_H`` hours, or unknown; else nothing.

    Parameters
    ----------
    targets
        As Snakemake takes them; files deep in a study cost what they need, which is not priced.
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
    parts = [f"{gpu:,.0f} hours of a GPU"] if gpu >= 1 else []
    parts += [f"{cpu:,.0f} hours of one CPU core"] if cpu >= 1 else []
    parts += [f"{', '.join(plan.untimed)}, of unknown length"] if plan.untimed else []
    return f"about {' and '.join(parts)} are to be computed" if gpu + cpu > ASK_ABOVE_H or plan.untimed else ""


def _planned(config: Config, target: str) -> list[str]:
    """`target` as `three_regime.planning.plan` knows it; of a table, figure or report the studies behind it."""
    from three_regime.planning.explain import studies_behind
    from three_regime.planning.plan import wanted

    try:
        wanted(config, [target])
    except UserError:
        return [study.name for study in studies_behind(config, Path(target)) or ()]
    return [target]
