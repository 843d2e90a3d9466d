"""Archives: only the members asked for, nothing outside the target folder, no links, bounded in size.

A new format is one reader in ``READERS``.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

CHUNK = 1 << 20


class ArchiveError(Exception):
    """The archive is damaged, or holds what must not be extracted; the message is a clause without the file name."""


class Entry(NamedTuple):
    """One entry of an archive: its path there, its size in bytes, and its content (None unless a regular file)."""

    path: str
    size: int
    content: IO[bytes] | None


class _Bounded(io.RawIOBase):
    """What `stream` holds, up to `most` bytes: headers are read into memory whole, whatever size they announce."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.stream, self.left, self.most = stream, most, most

    def read(self, size: int = -1) -> bytes:
        found = self.stream.read(size)
        self.left -= len(found)
        if self.left < 0:
            raise ArchiveError(f"unpacks to more than {self.most:,} bytes")
        return found


def _read_tar_gz(path: Path, most: int) -> Iterator[Entry]:
    with gzip.open(path) as packed:
        stream = _Bounded(packed, most)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for info in tar:
                yield Entry(info.name, info.size, tar.extractfile(info) if info.isreg() else None)
        while rest := stream.read(CHUNK):  # gzip compares its own checksum only at the very end
            yield Entry("", len(rest), None)


HEADERS = 1 << 24
"""Bytes of a file that are no content of its entries: headers, padding."""

READERS: dict[str, Callable[[Path, int], Iterator[Entry]]] = {".tar.gz": _read_tar_gz, ".tgz": _read_tar_gz}


def is_archive(name: str) -> bool:
    """Whether the ending of `name` is that of a known archive format."""
    return name.endswith(tuple(READERS))


def extract(archive: Path, kind: str, members: Collection[str], target: Path, limit: int) -> None:
    """Write `members` of `archive` below `target`; what else the archive holds is passed over.

    Parameters
    ----------
    archive
        The file; a partial download may have another ending than its content.
    kind
        File name whose ending tells the format.
    members
        Relative paths, as named in the archive (a leading ``./`` there is ignored).
    limit
        Largest total size of all entries, in bytes.

    Raises
    ------
    ArchiveError
        When the archive is damaged or lacks a member, when any path in it is absolute or holds ``..``, when a member
        is not a regular file or stands there twice, or when its content is larger than `limit`.
    """
    read = next(reader for ending, reader in READERS.items() if kind.endswith(ending))
    missing = set(members)
    total = 0
    try:
        for entry in read(archive, limit + HEADERS):
            path = PurePosixPath(entry.path)
            if path.is_absolute() or ".." in path.parts:
                raise ArchiveError(f"holds the unsafe path {entry.path!r}")
            total += entry.size
            if total > limit:
                raise ArchiveError(f"unpacks to more than {limit:,} bytes")
            if str(path) not in members:
                continue
            if entry.content is None:
                raise ArchiveError(f"holds {path} as a link or a special file")
            if str(path) not in missing:
                raise ArchiveError(f"holds {path} twice")
            missing.remove(str(path))
            _write(entry, target / path)
    except ArchiveError:
        raise
    except Exception as error:  # damaged headers make the reader fail in any way, ValueError and MemoryError included
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise  # the disk's fault
        raise ArchiveError(f"is damaged or no archive ({str(error) or type(error).__name__})") from error
    if missing:
        raise ArchiveError(f"lacks {', '.join(sorted(missing))}")


def _write(entry: Entry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.size
    with open(path, "xb") as file:
        while chunk := entry.content.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise ArchiveError(f"holds more of {entry.path} than it announces")
            file.write(chunk)
