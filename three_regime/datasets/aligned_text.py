"""Read two aligned text files line by line, without loading them into memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from three_regime.errors import UserError

CHUNK = 1 << 20


class MissingFileError(UserError):
    """A text file does not exist."""


def read_aligned(source: Path, target: Path, pairs: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield line n of `source` with line n of `target`, without line ends.

    Only a line feed ends a line: other characters that Unicode counts as line breaks occur inside sentences.

    Parameters
    ----------
    pairs
        Expected number of pairs; None: any.

    Raises
    ------
    UserError
        Before the first pair: when a file is missing, or the numbers of lines differ from each other (the message gives
        both) or from `pairs`. At a line: when it is not valid UTF-8 (the message names file and line).
    """
    counts = [count_lines(path) for path in (source, target)]
    if counts[0] != counts[1]:
        raise UserError(
            f"{source} and {target} are not aligned: they have {counts[0]:,} and {counts[1]:,} lines;"
            " line n of one must be the translation of line n of the other"
        )
    if pairs is not None and counts[0] != pairs:
        raise UserError(f"{source} and {target} have {counts[0]:,} lines instead of {pairs:,}")
    yield from zip(read_lines(source), read_lines(target), strict=True)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, without a byte order mark (see `read_aligned` for errors)."""
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            yield decoded(content.removesuffix(b"\n"), path, number)


def decoded(line: bytes, path: Path, number: int) -> str:
    """Decode a line.

    Raises
    ------
    UserError
        When it is not UTF-8 or contains a NUL byte; the message names `path` and the line `number`.
    """
    if b"\0" in line:
        raise UserError(f"{path}, line {number}: a NUL byte, as in UTF-16; convert the file to UTF-8")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not valid UTF-8 (byte {line[error.start]:#04x} at column {error.start + 1});"
            " convert the file to UTF-8"
        ) from error


def count_lines(path: Path) -> int:
    """Number of lines in a file, including a last line without a line feed."""
    lines, last = 0, b"\n"
    with _opened(path) as file:
        while chunk := file.read(CHUNK):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def _opened(path: Path):
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
