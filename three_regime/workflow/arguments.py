"""Parse Snakemake's command line: configuration files, working folder, targets."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from three_regime.errors import UserError
from three_regime.system import places
from three_regime.system.places import CHECKOUT
from three_regime.system.yaml_files import beside

_CONFIGFILE, _CONFIG, _DIRECTORY, _SNAKEFILE = "--configfile", "--config", "--directory", "--snakefile"
_PROFILES = ("--profile", "--workflow-profile")
_SPELLINGS = {"--configfiles": _CONFIGFILE, "-C": _CONFIG, "-d": _DIRECTORY, "-s": _SNAKEFILE}
_OF_ONE_VALUE = (_DIRECTORY, _SNAKEFILE, *_PROFILES)
BASE = Path("config.yaml")
_FORGETFUL = (_CONFIGFILE, _CONFIG)
"""Options with any number of values; if given twice, Snakemake keeps only the last."""

_FLAGS = re.compile(r"-[nkpF]+|--(dry-?run|keep-going|printshellcmds|forceall|rerun-incomplete|nolock|verbose)")
"""Options without a value."""

_OF_ONE_WORD = ("--cores", "-c", "--jobs", "-j", "--retries", "-T", "--latency-wait", "-w", *_OF_ONE_VALUE)
"""Options with one value."""

_COMPUTES_NOTHING = re.compile(
    r"-[nkpFq]*n[nkpFq]*|-[tlhvSD]|--(dry-?run|touch|unlock|(detailed-)?summary|lint|list.*|lt|help|version|dag|rulegraph"
    r"|report(?!-after-run).*|filegraph|d3dag|archive|delete-.*|cleanup-.*|generate-unit-tests|containerize)(=.*)?"
)


@dataclass(frozen=True)
class _Word:
    """One argument before ``--``.

    Attributes
    ----------
    option
        Long form of the option that the argument is, or may belong to; empty before the first option.
    value
        The value it gives to that option; empty for a bare option name.
    """

    text: str
    option: str
    value: str

    @property
    def names_option(self) -> bool:
        return self.text.startswith("-")


def _words(arguments: Sequence[str]) -> Iterator[_Word]:
    option = ""
    for text in itertools.takewhile(lambda argument: argument != "--", arguments):
        value = text
        if text.startswith("--"):
            option, _, value = text.partition("=")
        elif text.startswith("-"):
            option, value = text[:2], text[2:]
        option = _SPELLINGS.get(option, option)
        yield _Word(text, option, value)
        if value and option in _OF_ONE_VALUE:
            option = ""


def _values(arguments: Sequence[str], option: str) -> list[str]:
    return [word.value for word in _words(arguments) if word.option == option and word.value]


def refuse_repeated(arguments: Sequence[str]) -> None:
    """Raise if an option is given twice and Snakemake would ignore the first.

    Raises
    ------
    UserError
        The message names the option and two alternatives.
    """
    for option in _FORGETFUL:
        if sum(word.names_option and word.option == option for word in _words(arguments)) > 1:
            raise UserError(
                f"{option} is given twice, and Snakemake ignores the first: list all values after one, `{option} A B`,"
                " or use `python -m three_regime workflow`, which accepts both"
            )


def joined(arguments: Sequence[str]) -> list[str]:
    """Merge every ``--configfile`` (and ``--config``) in Snakemake's `arguments` into one, in order, and expand `~`."""
    words = list(_words(arguments))
    found = [_expanded(word) for word in words if word.option not in _FORGETFUL]
    for option in _FORGETFUL:
        values = _values(arguments, option)
        if option == _CONFIGFILE:
            values = [str(places.expanded(path)) for path in values]
        found += [option, *values] if values else []
    return [*found, *arguments[len(words) :]]


def _expanded(word: _Word) -> str:
    """The word, with `~` expanded if it names a folder or file."""
    if word.option not in _OF_ONE_VALUE or not word.value:
        return word.text
    return word.text.removesuffix(word.value) + str(places.expanded(word.value))


def base_file(arguments: Sequence[str] = ()) -> Path:
    """The ``config.yaml`` that Snakemake reads first: that beside its Snakefile.

    The Snakefile is that of ``--snakefile``, the one in this folder, or else that of the checkout (`located`).
    """
    if named := _values(arguments, _SNAKEFILE):
        return Path(named[-1]).parent / BASE
    return BASE if Path("Snakefile").exists() else CHECKOUT / BASE


def refuse_unread(base: Path, overlays: Sequence[Path]) -> None:
    """Raise if there is a ``config.yaml`` in this folder that is neither the base nor an overlay, so nobody reads it.

    Raises
    ------
    UserError
        The message says what is read instead and how to have it read.
    """
    here = BASE.resolve()
    if here.exists() and here not in [path.resolve() for path in (base, *overlays)]:
        raise UserError(
            f"there is a config.yaml in this folder but no Snakefile, so {base} would be read instead: add"
            " `--configfile config.yaml` to lay it over that, or move it away"
        )


def configfiles(arguments: Sequence[str]) -> list[Path] | None:
    """The configuration files in Snakemake's arguments, ``config.yaml`` first; None if ``--config`` is given too."""
    if any(word.option == _CONFIG for word in _words(arguments)):
        return None
    return [base_file(arguments), *map(Path, _values(arguments, _CONFIGFILE))]


def located(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """Adapt Snakemake's `arguments` to a working folder other than the checkout; return them and that folder.

    The folder is that of ``--directory``, or the current one. Paths of configuration files, profiles and the Snakefile
    are relative to the current folder; if there is no Snakefile here, that of the checkout is used.
    """
    words = list(_words(arguments))
    folder = Path(*_values(arguments, _DIRECTORY)[-1:])
    found = list(arguments)
    if folder != Path():
        for number, word in enumerate(words):
            profile = word.option in _PROFILES and os.path.exists(word.value)  # otherwise one of Snakemake's folders
            if word.value and (profile or word.option in (_CONFIGFILE, _SNAKEFILE)):
                found[number] = word.text.removesuffix(word.value) + os.path.abspath(word.value)
    here = Path("Snakefile").exists()
    if not any(word.option == _SNAKEFILE for word in words) and (folder != Path() or not here):
        found = [_SNAKEFILE, os.path.abspath("Snakefile") if here else str(CHECKOUT / "Snakefile"), *found]
    return found, folder


def check_configfiles(arguments: Sequence[str]) -> None:
    """Raise if a configuration file does not exist, e.g. because a preset is misspelt, or is here but not read.

    Raises
    ------
    UserError
        The message names the file, the nearest name and those that exist, or the value of ``--config`` that is no
        setting; or see `refuse_unread`.
    """
    files = [Path(file).expanduser() for file in _values(arguments, _CONFIGFILE)]
    for file in files:
        if not file.is_file():
            where = "" if file.suffix else "; targets come before --configfile, or after `--`"
            raise UserError(f"config file {file} does not exist{beside(file)}{where}")
    for value in _values(arguments, _CONFIG):
        if "=" not in value:
            raise UserError(f"--config takes KEY=VALUE, got {value}; targets come before --config, or after `--`")
    refuse_unread(base_file(arguments), files)


def computes(arguments: Sequence[str]) -> bool:
    """Whether Snakemake would run jobs, i.e. not a dry run, list, report, …"""
    return not any(word.names_option and _COMPUTES_NOTHING.fullmatch(word.text) for word in _words(arguments))


def options_of(arguments: Sequence[str]) -> list[str]:
    """The options among Snakemake's arguments, as they are written."""
    return [word.text for word in _words(arguments) if word.names_option]


def targets_of(arguments: Sequence[str]) -> list[str]:
    """The targets in Snakemake's arguments: before its options, after ``--``, and after an option of known length.

    Options that are not in ``_FLAGS`` or ``_OF_ONE_WORD`` may take any number of words, so a target after them is not
    found.
    """
    words = list(_words(arguments))
    found, takes = [], 0.0
    for word in words:
        if word.names_option:
            attached = word.text not in (word.option, *_SPELLINGS)  # -j2, --cores=2
            takes = 0 if attached or _FLAGS.fullmatch(word.text) else 1 if word.option in _OF_ONE_WORD else math.inf
        elif takes:
            takes -= 1
        else:
            found.append(word.text)
    return [*found, *arguments[len(words) + 1 :]]
