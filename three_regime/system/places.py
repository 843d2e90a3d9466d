"""Folders and files that a user names: `~` means the same everywhere, and places that cannot be are said beforehand."""

from __future__ import annotations

import getpass
import os
import re
import tempfile
from pathlib import Path

from three_regime.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder that holds the Snakefile, this package and ``config.yaml``."""

_LONGEST_NAME = 255
_LONGEST_PATH = 3000
_UNUSABLE = re.compile(r"[{}<>\x00-\x1f\x7f]")
SNAKEMAKE_FOLDER = Path(".snakemake")
"""Where Snakemake keeps its records and locks, in the folder in which it works."""

_NOT_OURS = frozenset((SNAKEMAKE_FOLDER.name, ".git", ".venv"))


def expanded(path: str | Path) -> Path:
    """`path` with a leading ``~`` or ``~user`` replaced by that user's home folder.

    Raises
    ------
    UserError
        When there is no such folder, as in a container that knows neither ``HOME`` nor the user.
    """
    found = Path(path)
    if not str(found).startswith("~"):
        return found
    whole = os.path.expanduser(found)
    if whole.startswith("~"):
        raise UserError(f"{path}: the home folder that ~ stands for is not known (HOME is not set); write it out")
    return Path(whole)


def cache_home() -> Path | None:
    """``$XDG_CACHE_HOME``, else ``~/.cache``; None where neither is known, or is not absolute as it has to be."""
    named = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return named if named.is_absolute() else None


def stand_ins() -> dict[str, str]:
    """Environment variables for programs that cannot do without a home folder or a user's name, where there are none.

    As in a container that was started for a number no user has: their caches then lie among the temporary files.
    """
    found = {}
    if os.path.expanduser("~").startswith("~"):
        place = os.path.join(tempfile.gettempdir(), f"three_regime-{os.getuid()}", "home")
        names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
        found = {name: place for name in names if not os.path.isabs(os.environ.get(name, ""))}
    try:
        getpass.getuser()
    except (KeyError, OSError):
        found["LOGNAME"] = str(os.getuid())
    return found


def folder(text: str) -> str:
    """A folder that the project may fill, as it is written everywhere: `~` expanded, no slash at the end.

    Raises
    ------
    ValueError
        When the text cannot name such a folder, whatever is on the disk.
    """
    if unusable := _UNUSABLE.search(text):
        raise ValueError(f"{text!r} holds {unusable[0]!r}, which has a meaning of its own to Snakemake")
    if "://" in text:
        raise ValueError(f"{text} is an address and no folder")
    try:
        path = expanded(text)
    except UserError as error:
        raise ValueError(str(error)) from error
    if not text.strip() or path == Path() or path == Path(path.anchor):
        raise ValueError(f"{text!r} is no folder of its own; name one, like `results`")
    if foreign := _NOT_OURS.intersection(path.parts):
        raise ValueError(f"{text} lies in {min(foreign)}, which belongs to another program")
    if len(os.fsencode(path)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise ValueError(f"{text[:40]}… is longer than file systems take ({_LONGEST_NAME} bytes a name)")
    return str(path)


def source(text: str) -> str:
    """A folder that is only read, with `~` expanded (``ValueError`` where that cannot be)."""
    if "\0" in text:
        raise ValueError(f"{text!r} holds a character that no path has")
    try:
        return str(expanded(text))
    except UserError as error:
        raise ValueError(str(error)) from error


def check(results: str, data: str) -> None:
    """Check that the folders of a configuration can be what they are to be, as far as the disk tells.

    Raises
    ------
    UserError
        Naming the key: a file or a link to nowhere stands in the way, or results would lie among the data.
    """
    for key, place in (("results", Path(results)), ("data.folder", Path(data))):
        existing(place, f"config.{key}: ")
    inner, outer = (Path(os.path.realpath(place)) for place in (results, data))
    if inner.is_relative_to(outer):
        raise UserError(f"config.results: {results} lies in config.data.folder ({data}); keep them apart")


def check_writable(results: str) -> None:
    """Check that the folder of the results can be written, or made.

    Raises
    ------
    UserError
        Naming the key and the folder that refuses.
    """
    there = existing(Path(results), "config.results: ")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"config.results: {there} cannot be written: it is read-only, or belongs to somebody else; name another"
            " folder"
        )


def existing(place: Path, context: str = "") -> Path:
    """`place`, or the nearest folder above it that exists.

    Raises
    ------
    UserError
        When something else than a folder, or a link to nowhere, stands there; `context` is put before the message.
    """
    for each in (place, *place.parents):
        if each.is_symlink() and not os.path.exists(each):
            target = os.path.join(each.parent, os.readlink(each))
            raise UserError(
                f"{context}{each} is a link to {target}, which does not exist: make that folder or the link"
            )
        if os.path.lexists(each):
            if not os.path.isdir(each):
                raise UserError(f"{context}{each} is a file, and has to be a folder")
            return each
    return Path(place.anchor or ".")
