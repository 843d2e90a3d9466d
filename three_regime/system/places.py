"""Expand and validate paths given by the user."""

from __future__ import annotations

import getpass
import os
import re
import tempfile
from pathlib import Path

from three_regime.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[2]
"""Folder of the Snakefile, this package and ``config.yaml``."""

_LONGEST_NAME = 255
_LONGEST_PATH = 3000
_UNUSABLE = re.compile(r"[{}<>\x00-\x1f\x7f]")
SNAKEMAKE_FOLDER = Path(".snakemake")
"""Folder of Snakemake's records and locks, relative to its working folder."""

_SOURCES = (
    ".ci", "benchmarks", "config", "docs", "envs", "profiles", "reference", "rules", "schemas", "scripts", "tests",
    "three_regime",
)  # fmt: skip
"""Folders of the checkout that hold its own files."""

_NOT_OURS = frozenset((SNAKEMAKE_FOLDER.name, ".git", ".venv"))


def expanded(path: str | Path) -> Path:
    """Replace a leading ``~`` or ``~user`` in `path` by that user's home folder.

    Raises
    ------
    UserError
        When the home folder is unknown, as in a container without ``HOME`` and a user entry.
    """
    found = Path(path)
    if not str(found).startswith("~"):
        return found
    whole = os.path.expanduser(found)
    if whole.startswith("~"):
        raise UserError(f"{path}: the home folder for ~ is unknown (HOME is not set); write the full path")
    return Path(whole)


def cache_home() -> Path | None:
    """``$XDG_CACHE_HOME``, else ``~/.cache``; None if that is unknown or not absolute."""
    named = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return named if named.is_absolute() else None


def stand_ins() -> dict[str, str]:
    """Environment variables for programs that need a home folder or a user name, if there is none.

    This is the case in a container started with an unknown user id; caches are then put into the temporary folder.
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
    """Validate and normalise a folder that the project writes to: expand `~`, remove a trailing slash.

    Raises
    ------
    ValueError
        When the text cannot be such a folder, regardless of the disk.
    """
    if unusable := _UNUSABLE.search(text):
        raise ValueError(f"{text!r} holds {unusable[0]!r}, which has a special meaning in Snakemake")
    if "://" in text:
        raise ValueError(f"{text} is an address, not a folder")
    try:
        path = expanded(text)
    except UserError as error:
        raise ValueError(str(error)) from error
    named = Path(os.path.normpath(path))
    if not text.strip() or named in (Path(), Path(path.anchor)) or named.name == "..":
        raise ValueError(f"{text!r} is not a separate folder; name one, like `results`")
    if foreign := _NOT_OURS.intersection(path.parts):
        raise ValueError(f"{text} is in {min(foreign)}, which belongs to another program")
    if len(os.fsencode(path)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise ValueError(f"{text[:40]}… is longer than file systems allow ({_LONGEST_NAME} bytes per name)")
    return str(path)


def source(text: str) -> str:
    """Expand `~` in a folder that is only read; raise ``ValueError`` if that is impossible."""
    if "\0" in text:
        raise ValueError(f"{text!r} holds a character that is not allowed in paths")
    try:
        return str(expanded(text))
    except UserError as error:
        raise ValueError(str(error)) from error


def check(results: str, data: str) -> None:
    """Check the folders of a configuration against the disk.

    Raises
    ------
    UserError
        When one is a file or a dangling link, or holds this project's own files, or the results would be inside the
        data folder; the message names the key.
    """
    for key, place in (("results", Path(results)), ("data.folder", Path(data))):
        existing(place, f"config.{key}: ")
        _check_apart(place, f"config.{key}: ")
    inner, outer = (Path(os.path.realpath(place)) for place in (results, data))
    if inner.is_relative_to(outer):
        raise UserError(f"config.results: {results} is inside config.data.folder ({data}); keep them apart")


def _check_apart(place: Path, context: str) -> None:
    """Refuse the checkout itself and folders among its own files, where outputs would mix with them."""
    actual = Path(os.path.realpath(place))
    if actual == CHECKOUT or any(actual.is_relative_to(CHECKOUT / name) for name in _SOURCES):
        raise UserError(f"{context}{place} is a folder of this project's own files; name another, like `results`")


def check_writable(results: str) -> None:
    """Check that the results folder can be written or created.

    Raises
    ------
    UserError
        When it cannot; the message names the key and the folder.
    """
    there = existing(Path(results), "config.results: ")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"config.results: {there} is not writable: it is read-only, or belongs to another user; name another folder"
        )


def existing(place: Path, context: str = "") -> Path:
    """`place`, or the nearest folder above it that exists.

    Raises
    ------
    UserError
        When it is not a folder, or a dangling link; `context` is put before the message.
    """
    for each in (place, *place.parents):
        if each.is_symlink() and not os.path.exists(each):
            target = os.path.join(each.parent, os.readlink(each))
            raise UserError(
                f"{context}{each} is a link to {target}, which does not exist: create that folder, or fix the link"
            )
        if os.path.lexists(each):
            if not os.path.isdir(each):
                raise UserError(f"{context}{each} is a file, but must be a folder")
            return each
    return Path(place.anchor or ".")
