"""Before a run of Snakemake: where it works, whether its settings are there, and whether hours of work are meant."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from three_regime.config import Config, load
from three_regime.errors import UserError
from three_regime.names import nearest
from three_regime.records import CHECKOUT, configfiles

ASK_ABOVE_H = 10.0
"""Hours of work (of a GPU, or of one CPU core) from which on a person is asked (this project's choice)."""

_CONFIGFILES = ("--configfile", "--configfiles")
_COMPUTES_NOTHING = re.compile(
    r"-[A-Za-z]*n[A-Za-z]*|-[tlhvSD]|--(dry-?run|touch|unlock|(detailed-)?summary|lint|report.*|list.*|lt|help|version"
    r"|dag|rulegraph|filegraph|d3dag|archive|delete-.*|cleanup-.*|generate-unit-tests|containerize)(=.*)?"
)


def located(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """Snakemake's `arguments`, fit for another working folder than the checkout, and that folder.

    Its name is that of ``--directory``, or the present one. Configuration files count from where the command was
    given; a Snakefile that is not there is that of the checkout.
    """
    folder, taking = Path(), ""
    found = []
    for argument in arguments:
        value = argument
        if argument.startswith("-"):
            taking, _, value = argument.partition("=")
        if taking in ("--directory", "-d") and value:
            folder, taking = Path(value), ""
        elif taking in _CONFIGFILES and value:
            argument = argument.removesuffix(value) + os.path.abspath(value)
        found.append(argument)
    if folder == Path():
        found = list(arguments)
    if not any(argument.partition("=")[0] in ("--snakefile", "-s") for argument in arguments):
        found = found if Path("Snakefile").exists() else ["--snakefile", str(CHECKOUT / "Snakefile"), *found]
    return found, folder


def check_configfiles(arguments: Sequence[str]) -> None:
    """Refuse a configuration file that is not there, a preset's name with one letter wrong, say.

    Raises
    ------
    UserError
        Naming the file, the nearest name and those that exist.
    """
    taking = False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument.startswith("-"):
            taking = name in _CONFIGFILES
        file = value if argument.startswith("-") else argument
        if taking and file and not Path(file).expanduser().is_file():
            raise UserError(f"config file {file} does not exist{beside(Path(file))}")


def beside(file: Path) -> str:
    """The nearest name and all the names of YAML files in the folder of one that is missing; nothing without any."""
    names = sorted(path.stem for path in file.parent.glob("*.yaml"))
    return f"{nearest(file.stem, names)}; {file.parent} has {', '.join(names)}" if names else ""


def computes(arguments: Sequence[str]) -> bool:
    """Whether Snakemake would run jobs: no dry-run, list, report, …"""
    return not any(_COMPUTES_NOTHING.fullmatch(argument) for argument in arguments if argument.startswith("-"))


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
    from three_regime.plan import make
    from three_regime.plan_table import worked
    from three_regime.pricing import RATES, read_rates

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
    """`target` as `three_regime.plan` knows it; of a table, figure or report the studies behind it."""
    from three_regime.light_explained import studies_behind
    from three_regime.plan import wanted

    try:
        wanted(config, [target])
    except UserError:
        return [owner.name for owner in studies_behind(config, Path(target)) or ()]
    return [target]


def targets_of(arguments: Sequence[str]) -> list[str]:
    """The targets among Snakemake's arguments: before the first option, and after ``--``."""
    return list(_targets(arguments))


def _targets(arguments: Sequence[str]) -> Iterator[str]:
    begun = False
    for number, argument in enumerate(arguments):
        if argument == "--":
            yield from arguments[number + 1 :]
            return
        begun = begun or argument.startswith("-")
        if not begun:
            yield argument
