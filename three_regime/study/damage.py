"""Damaged files are set aside under a clear name, so that what made them can make them anew. No torch."""

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
"""Time given to what must be made again: one second into 1970, before every input."""

SUFFIX = ".damaged"
"""Added to the name of what is set aside; a file that was set aside before is replaced."""


def set_aside(path: Path, what: str) -> Path:
    """Rename a damaged file, or whatever is in a file's place, and say so in the log; returns the new name.

    Parameters
    ----------
    what
        What is wrong with it, a sentence that names it.
    """
    aside = path.with_name(path.name + SUFFIX)
    with disk_errors(path):
        if aside.exists() and (aside.is_dir() or path.is_dir()):  # neither takes the other's place
            aside = path.with_name(f"{path.name}{SUFFIX}-{os.getpid()}")
        os.replace(path, aside)
    log.warning("%s; it is set aside as %s", what, aside)
    return aside


def found(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Which files of one product are damaged, and what is wrong with each.

    Tensors are read where something else has seen damage in them and set the file's time back (``LONG_AGO_NS``).
    Where weights and JSON do not belong together, it is the weights: the JSON file is written first and says what
    they must be.
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
        except UserError as error:  # a link to nowhere is missing
            wrong.append((path, error.what if isinstance(error, Damaged) else str(error)))
    if not wrong and len(digests) > 1:
        (first, recorded), (second, carried) = digests.values()
        if first == second and None not in (recorded, carried) and recorded != carried:
            weights = next(path for path in paths if path.suffix != ".json")
            wrong.append((weights, f"{weights} does not belong to the JSON file beside it, whose digest is another"))
    return wrong


@contextlib.contextmanager
def inputs_set_aside(inputs: Collection[Path]) -> Iterator[None]:
    """Set an input aside that turns out to be damaged: a job cannot mend it, but the next run makes it anew.

    Raises
    ------
    UserError
        In place of the `Damaged`, with the new name and what to do.
    """
    try:
        yield
    except Damaged as error:
        if error.path not in inputs:
            raise
        aside = set_aside(error.path, error.what)
        raise UserError(f"{error.what}; it is kept as {aside}: run again, and it is made anew") from error


def refuse_to_replace(out: Path, *read: Path) -> None:
    """Refuse an output that would take the place of what it is made from, or of a study's result.

    Raises
    ------
    UserError
        Naming it.
    """
    if not out.exists():
        return
    if any(path.exists() and out.samefile(path) for path in read):
        raise UserError(f"{out} is read by this command and would be replaced by what it writes; choose another --out")
    if stored_fingerprint(out) is not None:
        raise UserError(f"{out} is a result of a study and would be replaced; choose another --out")
