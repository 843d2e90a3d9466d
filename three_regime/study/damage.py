"""Detect damaged files and rename them to ``*.damaged``, so the next run computes them again."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from three_regime.errors import Damaged, UserError
from three_regime.study.fingerprints import stored_fingerprint
from three_regime.study.results import FINGERPRINT_KEY, read_result
from three_regime.system.files import DIGEST_KEY, disk_errors, read_arrays, read_metadata

log = logging.getLogger(__name__)

LONG_AGO_NS = 10**9
"""Modification time given to files that must be computed again: one second into 1970, older than every input."""

SUFFIX = ".damaged"
"""Suffix of the name of a file that is set aside; an earlier such file is replaced."""


def set_aside(path: Path, what: str) -> Path:
    """Rename a damaged file (or a folder in its place), log it, and return the new name.

    Parameters
    ----------
    what
        Description of the damage; a sentence that names the file.
    """
    aside = path.with_name(path.name + SUFFIX)
    with disk_errors(path):
        if aside.exists() and (aside.is_dir() or path.is_dir()):  # `os.replace` cannot swap a file and a folder
            aside = path.with_name(f"{path.name}{SUFFIX}-{os.getpid()}")
        os.replace(path, aside)
    log.warning("%s; it is set aside as %s", what, aside)
    return aside


def found(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Damaged files of one product, each with a description of the damage.

    Tensors are read only if their file was marked by a modification time of ``LONG_AGO_NS``. If weights and JSON do
    not match, the weights are reported: the JSON file is written first and records their digest.

    Raises
    ------
    UserError
        When a file cannot be read now, which says nothing about its content.
    """
    wrong: list[tuple[Path, str]] = []
    digests: dict[str, tuple[str | None, str | None]] = {}
    for path in paths:
        if not os.path.lexists(path):
            continue
        try:
            if path.suffix == ".json":
                result = read_result(path)
                digests[path.suffix] = result.fingerprint, result.digest
            else:
                metadata = read_metadata(path)
                digests[path.suffix] = metadata.get(FINGERPRINT_KEY), metadata.get(DIGEST_KEY)
                if path.lstat().st_mtime_ns <= LONG_AGO_NS:
                    read_arrays(path)
        except Damaged as error:
            wrong.append((path, error.what))
        except UserError as error:
            if path.exists():
                raise
            wrong.append((path, str(error)))  # a dangling link
    if not wrong and len(digests) > 1:
        (first, recorded), (second, carried) = digests.values()
        if first == second and None not in (recorded, carried) and recorded != carried:
            weights = next(path for path in paths if path.suffix != ".json")
            wrong.append((weights, f"{weights} does not match the JSON file beside it, which records another digest"))
    return wrong


@contextlib.contextmanager
def inputs_set_aside(inputs: Collection[Path]) -> Iterator[None]:
    """Set aside an input that turns out to be damaged, so the next run computes it again.

    Raises
    ------
    UserError
        In place of `Damaged`, with the new name and what to do.
    """
    try:
        yield
    except Damaged as error:
        if error.path not in inputs:
            raise
        aside = set_aside(error.path, error.what)
        raise UserError(f"{error.what}; it is kept as {aside}: run again to recompute it") from error


def refuse_to_replace(out: Path, *read: Path) -> None:
    """Raise if the output would overwrite one of its inputs or a study's result.

    Raises
    ------
    UserError
        When it would; the message names the file.
    """
    if not out.exists():
        return
    if any(path.exists() and out.samefile(path) for path in read):
        raise UserError(f"{out} is an input of this command and would be overwritten; choose another --out")
    if stored_fingerprint(out) is not None:
        raise UserError(f"{out} is a result of a study and would be overwritten; choose another --out")
