"""Verified, resumable downloads: every file of a source is present and matches its digest, or the failure is explained.

Places are tried in this order: existing files, offline folders, addresses. Files get their final name only after they
have been verified, and a lock per file serialises processes that need the same file. A re-packed archive is accepted
if its members match their digests; a wrong file never is. If no digest is published, the digest of the first download
is recorded in ``<file>.digests.json`` beside it and enforced from then on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from three_regime.datasets.sources import Source, digest_of, load_sources
from three_regime.errors import UserError
from three_regime.preparation.transfer import (
    DEFAULT_PATIENCE,
    DISK_FULL,
    Patience,
    TooSlow,
    TransferError,
    discard,
    fetch,
    partial_size,
)
from three_regime.system.archives import ArchiveError, extract, is_archive
from three_regime.system.file_locks import exclusively
from three_regime.system.files import disk_errors, read_json, write_json
from three_regime.system.places import expanded

__all__ = ["Patience", "Source", "load_sources", "obtain"]

log = logging.getLogger(__name__)

LARGEST_RATIO = 30
SLACK = 1 << 26
LARGEST_UNKNOWN = 1 << 28
"""Maximum size in bytes of a file whose size is not published; the largest of them has 12 million."""


class _Refused(Exception):
    """A file is not the expected one; the message is a clause that names the digest that differs."""


def obtain(
    source: Source,
    folder: Path,
    *,
    offline: Sequence[Path] = (),
    mirrors: Sequence[str] = (),
    progress: bool = True,
    patience: Patience = DEFAULT_PATIENCE,
) -> list[Path]:
    """Make every file of `source` present and verified in `folder`.

    Parameters
    ----------
    folder
        Raw folder of the data set; created if missing. An archive found there is used as if in an offline folder.
    offline
        Folders that may hold the archive or its files; searched before the network is used.
    mirrors
        Addresses tried before those of the table; one that ends in ``/`` is the folder of the file.
    progress
        Draw a progress bar on a terminal; elsewhere progress is logged.
    patience
        Time limits, retries, and the speed below which the next address is tried.

    Returns
    -------
    list of Path
        One path for each of ``source.files``, in that order.

    Raises
    ------
    UserError
        When no place has the file (the message lists each place with its reason, and what to put where), or the disk
        is full or not writable. A partial download is kept for the next run.
    """
    folder = Path(folder)
    paths = [folder / name for name in source.files]
    with disk_errors(folder / source.file, DISK_FULL):
        if not _job(source, folder).wanted:
            return paths
        folder.mkdir(parents=True, exist_ok=True)
        waiting = f"another process is obtaining {source.file} in {folder}; waiting for it"
        with exclusively(folder / f".{source.file}.lock", waiting):
            job = _job(source, folder)  # another process may have downloaded it meanwhile
            if job.wanted:
                reasons: list[str] = []
                places = [expanded(place) for place in offline]
                if _from_disk(job, places, reasons):
                    discard(job.part)  # of an earlier download, which nothing will resume
                elif not _from_network(job, mirrors, progress, patience, reasons):
                    raise UserError(_failure(job, places, reasons))
    return paths


@dataclass(frozen=True)
class _Job:
    """Remaining work for a source.

    Attributes
    ----------
    known
        Name of the file or member → published or recorded digest; names without either are absent.
    wanted
        Files that are missing or do not match their digest.
    """

    source: Source
    folder: Path
    known: Mapping[str, str]
    wanted: tuple[str, ...]

    @property
    def record(self) -> Path:
        return self.folder / f"{self.source.file}.digests.json"

    @property
    def verifiable(self) -> bool:
        """Whether the digests of all wanted files are known."""
        return all(name in self.known for name in self.wanted)

    @property
    def part(self) -> Path:
        return self.folder / f"{self.source.file}.part"

    def hint(self, name: str) -> str:
        """How to accept another version, if the digest is not a published one."""
        if {self.source.file: self.source.digest, **self.source.files}.get(name):
            return ""
        return f" (recorded at the first download; delete {self.record} to accept another version)"


def _job(source: Source, folder: Path) -> _Job:
    empty = _Job(source, folder, {}, ())
    recorded = _recorded(empty.record)
    published = {source.file: source.digest, **source.files}
    known = {**recorded, **{name: digest for name, digest in published.items() if digest}}
    wanted = (name for name in source.files if name not in known or _fault(folder / name, known[name]))
    return _Job(source, folder, known, tuple(wanted))


def _recorded(record: Path) -> dict[str, str]:
    """Digests recorded at the first download."""
    recorded = read_json(record) if record.is_file() else {}
    if not isinstance(recorded, dict) or not all(isinstance(digest, str) for digest in recorded.values()):
        raise UserError(f"{record} holds no digests of files; delete it and run again")
    return recorded


def _fault(path: Path, digest: str | None, size: int | None = None) -> str | None:
    """Why `path` is not the file with this digest and size (size is compared first); None if it is."""
    if not path.is_file():
        return "is missing"
    if size is not None and path.stat().st_size != size:
        return f"has {path.stat().st_size:,} bytes, expected {size:,}"
    try:
        if digest is None or (found := digest_of(path, digest)) == digest:
            return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"has {_spoken(found)}, expected {_spoken(digest)}"


def _spoken(digest: str) -> str:
    return digest.replace(":", " ", 1)


@contextlib.contextmanager
def _staging(job: _Job) -> Iterator[Path]:
    """An empty folder beside the destination, removed on exit; one left by a killed run is removed first."""
    staging = job.folder / f".{job.source.file}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _settle(job: _Job, staging: Path, archive: Path | None = None, fault: str | None = None) -> None:
    """Verify the staged files, record unknown digests, and move the files to their names.

    Parameters
    ----------
    archive, fault
        Archive the files come from, and its mismatch if any.

    Raises
    ------
    _Refused
        When a file differs; then nothing is moved or recorded.
    """
    for name in job.wanted:
        size = job.source.bytes if name == job.source.file else None
        if differs := _fault(staging / name, job.known.get(name), size):
            raise _Refused(f"{name} {differs}{job.hint(name)}")
    new = {name: digest_of(staging / name) for name in job.wanted if name not in job.known}
    if archive is not None and job.source.file not in job.known:
        new[job.source.file] = digest_of(archive)
    if new:
        verified = archive is not None and job.source.file in job.known and not fault
        what = "its digest is right; those of its members" if verified else "no digest is published; those of this copy"
        log.info("%s: %s are kept in %s", job.source.file, what, job.record)
        write_json(job.record, {**_recorded(job.record), **new})
    for name in job.wanted:
        (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / name, job.folder / name)


def _settle_archive(job: _Job, archive: Path) -> None:
    """Extract the wanted members from `archive`, which must match its digest, or all of those members theirs."""
    source = job.source
    _check_readable(archive)
    fault = _fault(archive, job.known.get(source.file), source.bytes)
    if fault and not job.verifiable:
        raise _Refused(f"the archive {fault}{job.hint(source.file)}")
    limit = source.unpacked_bytes or SLACK + LARGEST_RATIO * archive.stat().st_size
    try:
        with _staging(job) as staging:
            extract(archive, source.file, job.wanted, staging, limit)
            _settle(job, staging, archive, fault)
    except (ArchiveError, _Refused) as error:
        inner = f"the archive {error}" if isinstance(error, ArchiveError) else str(error)
        raise _Refused(f"the archive {fault}, and {inner}" if fault else inner) from error
    if fault:
        log.info("%s is a re-packed %s: its members match their digests", archive, source.file)


def _settle_files(job: _Job, root: Path) -> None:
    with _staging(job) as staging:
        for name in job.wanted:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            _link(root / name, staging / name)
        _settle(job, staging)


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where that is impossible."""
    _check_readable(source)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _check_readable(file: Path) -> None:
    if not os.access(file, os.R_OK):
        raise _Refused(f"{file.name} cannot be read")


def _from_disk(job: _Job, offline: Sequence[Path], reasons: list[str]) -> bool:
    """Use the archive in the raw folder, or the files of an offline folder, which is never changed."""
    source = job.source
    tops = {PurePosixPath(name).parts[0] for name in source.members}
    # Only a verified archive vouches for files whose digests are unknown.
    archive_first = source.file in job.known and not job.verifiable
    for place in (job.folder, *offline):
        inside = place.parent if place.name in tops else place  # the user named the folder of the members itself
        found = False
        for root in dict.fromkeys((inside, place, place / source.dataset)):
            ways = []
            elsewhere = root.resolve() != job.folder.resolve()
            # `os.path` takes what this user may not look into as absent; `Path.is_file` would raise.
            missing = [name for name in job.wanted if not os.path.isfile(root / name)]
            if elsewhere and not missing:
                ways.append((_settle_files, root))
            elif elsewhere and (
                len(missing) < len(job.wanted) or any(os.path.isdir(root / top) for top in tops - {"."})
            ):
                found = True
                lacks = f"lacks {', '.join(missing[:3])}" + (", …" if len(missing) > 3 else "")
                reasons.append(f"{root}: {_unreadable(root / missing[0]) or lacks}")
            if is_archive(source.file) and os.path.isfile(root / source.file):
                ways.insert(0 if archive_first else len(ways), (_settle_archive, root / source.file))
            for settle, path in ways:
                found = True
                try:
                    settle(job, path)
                    return True
                except _Refused as reason:
                    reasons.append(f"{path}: {reason}")
        if not found and place != job.folder:
            nothing = f"holds no {source.file}" if os.path.isdir(place) else "is not a folder"
            reasons.append(f"{place}: {_unreadable(place / source.file) or nothing}")
    return False


def _unreadable(file: Path) -> str:
    """Log and return why nobody can tell whether `file` exists, e.g. a folder of another user; empty if one can."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        log.warning("%s cannot be read (%s)", file.parent, error.strerror)
        return f"cannot be read ({error.strerror})"
    return ""


def _from_network(job: _Job, mirrors: Sequence[str], progress: bool, patience: Patience, reasons: list[str]) -> bool:
    """Try each address; a slow one is abandoned for the next, and tried again if the others fail."""
    source = job.source
    urls = dict.fromkeys((*(url + source.file if url.endswith("/") else url for url in mirrors), *source.urls))
    pending = [(url, patience.slowest) for url in urls]
    if pending:
        _check_space(job)
    while pending:
        url, slowest = pending.pop(0)
        log.info("%s: downloading from %s", source.file, url)
        try:
            _from_address(job, url, slowest if pending else 0.0, progress, patience)
            return True
        except TooSlow as reason:
            log.warning("%s %s; trying the next address, this one again if the others fail", url, reason)
            pending.append((url, 0.0))
        except (TransferError, _Refused) as reason:
            log.warning("%s: %s", url, reason)
            reasons.append(f"{url}: {reason}")
    return False


def _from_address(job: _Job, url: str, slowest: float, progress: bool, patience: Patience) -> None:
    source = job.source
    while True:
        resumed = fetch(
            url,
            job.part,
            expected=source.bytes,
            limit=2 * source.bytes + SLACK if source.bytes else LARGEST_UNKNOWN,
            verified_later=source.file in job.known or job.verifiable,
            slowest=slowest,
            patience=patience,
            progress=progress,
        )
        try:
            if is_archive(source.file):
                _settle_archive(job, job.part)
            else:
                with _staging(job) as staging:
                    _link(job.part, staging / source.file)  # the download stays until it is verified
                    _settle(job, staging)
        except _Refused as reason:
            discard(job.part)
            if not resumed:
                raise
            log.warning("%s: the resumed download is refused (%s); downloading it from the start", source.file, reason)
        else:
            discard(job.part)
            return


def _check_space(job: _Job) -> None:
    source = job.source
    if source.bytes is None:
        return
    unpacked = (source.unpacked_bytes or 2 * source.bytes) if is_archive(source.file) else 0
    needed = max(0, source.bytes - partial_size(job.part)) + unpacked
    free = shutil.disk_usage(job.folder).free
    if free < needed:
        raise UserError(
            f"no free disk space in {job.folder} for {source.file}: it needs {needed / 1e6:,.0f} MB,"
            f" {free / 1e6:,.0f} MB are free"
        )


def _failure(job: _Job, offline: Sequence[Path], reasons: Sequence[str]) -> str:
    """Message with all places tried, and what to put where.

    The raw folder takes archives and files of known digest: a file found there may be damaged.
    """
    source = job.source
    facts = [f"{source.bytes:,} bytes"] if source.bytes else []
    facts += [_spoken(job.known[source.file])] if source.file in job.known else []
    what = source.file + (f" ({', '.join(facts)})" if facts else "")
    loose = bool(offline) or job.verifiable
    if loose and (tops := sorted({PurePosixPath(name).parts[0] for name in source.members})):
        kind = "folder" if all("/" in name for name in source.members) else "file"
        what += f" or the {kind}{'s' if len(tops) > 1 else ''} {', '.join(tops)}"
    tried = "".join(f"\n  {reason}" for reason in reasons) or "\n  no offline folder and no address is given"
    place = offline[0] if offline else job.folder
    if not loose and not is_archive(source.file):
        place = "a folder that data.offline names"
    return f"{source.name} could not be obtained:{tried}\nPut {what} into {place} and run again."
