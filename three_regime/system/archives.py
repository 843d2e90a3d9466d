"""Extract archives safely: only requested members, nothing outside the target folder, no links, bounded size.

A new format needs a reader in ``READERS``.
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
    """The archive is damaged or must not be extracted; the message is a clause without the file name."""


class Entry(NamedTuple):
    """An entry of an archive: its path, its size in bytes, and its content (None unless a regular file)."""

    path: str
    size: int
    content: IO[bytes] | None


class _Bounded(io.RawIOBase):
    """`stream` limited to `most` bytes, because headers of any announced size are read into memory."""

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
        while rest := stream.read(CHUNK):  # gzip checks its checksum only at the end
            yield Entry("", len(rest), None)


HEADERS = 1 << 24
"""Maximum bytes of a file for headers and padding."""

READERS: dict[str, Callable[[Path, int], Iterator[Entry]]] = {".tar.gz": _read_tar_gz, ".tgz": _read_tar_gz}


def is_archive(name: str) -> bool:
    """Whether the suffix of `name` is that of a known archive format."""
    return name.endswith(tuple(READERS))


def extract(archive: Path, kind: str, members: Collection[str], target: Path, limit: int) -> None:
    """Extract `members` of `archive` below `target`; ignore other entries.

    Parameters
    ----------
    archive
        The file; its suffix may differ from its format, as for a partial download.
    kind
        File name whose suffix gives the format.
    members
        Relative paths, as named in the archive (a leading ``./`` there is ignored).
    limit
        Maximum total size of all entries in bytes.

    Raises
    ------
    ArchiveError
        When the archive is damaged or lacks a member, a path in it is absolute or contains ``..``, a member is not a
        regular file or occurs twice, or the content is larger than `limit`.
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
    except Exception as error:  # damaged headers raise arbitrary exceptions, including ValueError and MemoryError
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise  # a disk error
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
