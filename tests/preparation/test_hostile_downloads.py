"""Malformed responses and broken network settings: each is reported, and the next address is tried."""

from __future__ import annotations

import contextlib
import errno
import gzip
import http.client
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import urllib3
from serving import Server, serving
from toy_source import ARCHIVE, MEMBERS, NAME, QUICK, SOURCE, UNPUBLISHED, assert_complete, get, keep_partial, packed

from three_regime.errors import UserError
from three_regime.preparation import download, transfer
from three_regime.system import archives


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        yield lambda content=ARCHIVE, **faults: stack.enter_context(serving(files={NAME: content}, **faults))


def header(size: int, kind: bytes = tarfile.REGTYPE, name: str = "toy/part_0") -> bytes:
    """A tar header that announces `size` bytes."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(**records: str) -> bytes:
    """A well-formed extended header before the header of a member."""
    body = b""
    for key, value in records.items():
        text = f" {key.replace('__', '.')}={value}\n"
        size = len(text) + 1
        while len(str(size)) + len(text) != size:
            size = len(str(size)) + len(text)
        body += f"{size}{text}".encode()
    return (
        header(len(body), tarfile.XHDTYPE, "pax") + body + bytes(-len(body) % 512) + header(5) + b"hello" + bytes(507)
    )


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


DAMAGED = {
    "sparse map of letters": gzip.compress(pax(GNU__sparse__map="a,b", GNU__sparse__size="5")),
    "sparse map that lies": gzip.compress(pax(GNU__sparse__map="0,5,9", GNU__sparse__size="x")),
    "negative size": gzip.compress(pax(size="-5")),
    "size that is no number": gzip.compress(pax(size="many")),
    "path of a null": gzip.compress(pax(path="a\0b")),
    "time that is none": gzip.compress(pax(mtime="nan")),
    "header of random bytes": gzip.compress(os.urandom(2048)),
    "huge extended header": gzip.compress(header(1 << 40, tarfile.XHDTYPE, "pax") + bytes(1 << 20)),
    "huge member": gzip.compress(header(1 << 40) + bytes(1 << 16)),
    "long name that goes on": gzip.compress(header(1 << 33, tarfile.GNUTYPE_LONGNAME, "x") + bytes(1 << 20)),
    "zip": b"PK\x03\x04" + bytes(200),
    "not packed": gzip.decompress(ARCHIVE),
    "gzip of nothing": gzip.compress(b""),
    "gzip of a text": gzip.compress(b"rate limit exceeded"),
    "gzip of a gzip": gzip.compress(ARCHIVE),
    "gzip header alone": ARCHIVE[:10],
    "deflate error": flipped(ARCHIVE, 200_000),
    "wrong checksum": flipped(ARCHIVE, len(ARCHIVE) - 6),
    "cut in the middle": ARCHIVE[: len(ARCHIVE) // 2],
    "garbage behind": ARCHIVE + b"garbage",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_archive_leaves_the_next_mirror_to_be_tried(tmp_path, start, content):
    bad, good = start(content), start()
    get(tmp_path, bad, good, source=UNPUBLISHED)
    assert_complete(tmp_path)
    assert len(bad.requests) == len(good.requests) == 1


@pytest.mark.parametrize("name", ["sparse map of letters", "huge member", "cut in the middle", "zip"])
def test_a_damaged_archive_does_not_block_the_next_run(tmp_path, start, name):
    for _ in range(2):
        with pytest.raises(UserError, match="could not be obtained"):
            get(tmp_path, start(DAMAGED[name]), source=UNPUBLISHED)
        assert not list(tmp_path.glob("*.part*"))
    keep_partial(tmp_path, DAMAGED[name])
    get(tmp_path, start(), source=UNPUBLISHED)
    assert_complete(tmp_path)


def test_headers_cannot_fill_the_memory(tmp_path, monkeypatch):
    """An extended header is read into memory whole, whatever size it announces."""
    monkeypatch.setattr(archives, "HEADERS", 1 << 16)
    (tmp_path / "a.tgz").write_bytes(gzip.compress(header(1 << 24, tarfile.XHDTYPE, "pax") + bytes(1 << 24)))
    with pytest.raises(archives.ArchiveError, match="unpacks to more than"):
        archives.extract(tmp_path / "a.tgz", "a.tgz", ["x"], tmp_path, 1000)


@pytest.mark.parametrize("error", [ValueError("a"), MemoryError(), OverflowError(), RecursionError(), zlib.error("x")])
def test_however_a_reader_fails_the_archive_is_damaged(tmp_path, monkeypatch, error):
    def fail(path: Path, most: int) -> Iterator[archives.Entry]:
        raise error

    monkeypatch.setitem(archives.READERS, ".tgz", fail)
    with pytest.raises(archives.ArchiveError, match="is damaged or no archive"):
        archives.extract(tmp_path / "a.tgz", "a.tgz", ["x"], tmp_path, 1000)


FAULTS = [
    OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /etc/none.pem"),
    requests.exceptions.SSLError("certificate verify failed"),
    requests.exceptions.ProxyError("no proxy"),
    requests.exceptions.InvalidURL("no host"),
    requests.exceptions.InvalidSchema("no adapters"),
    requests.exceptions.TooManyRedirects("30"),
    requests.exceptions.ChunkedEncodingError("broken"),
    requests.exceptions.ContentDecodingError("broken"),
    urllib3.exceptions.LocationParseError("x"),
    urllib3.exceptions.ProtocolError("broken"),
    urllib3.exceptions.DecodeError("broken"),
    http.client.LineTooLong("header line"),
    UnicodeError("label too long"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError("timed out"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_whatever_the_library_raises_the_next_address_is_tried(tmp_path, start, monkeypatch, fault):
    server, real = start(), requests.get

    def asked(url: str, **options: object) -> requests.Response:
        if "bad" in url:
            raise fault
        return real(url, **options)

    monkeypatch.setattr(transfer.requests, "get", asked)
    source = replace(SOURCE, urls=("https://bad.example/x",))
    with pytest.raises(UserError, match="https://bad.example/x: "):
        download.obtain(source, tmp_path, patience=QUICK)
    download.obtain(replace(source, urls=(*source.urls, server.url(NAME))), tmp_path, patience=QUICK)
    assert_complete(tmp_path)


def test_a_bundle_of_certificates_that_is_not_there(tmp_path, start, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    source = replace(SOURCE, urls=("https://127.0.0.1:9/x", start().url(NAME)))
    download.obtain(source, tmp_path / "raw", patience=QUICK)
    assert_complete(tmp_path / "raw")


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("source", [UNPUBLISHED, SOURCE], ids=["unpublished", "published"])
def test_what_has_no_end_is_given_up(tmp_path, start, monkeypatch, source, announced):
    monkeypatch.setattr(download, "LARGEST_UNKNOWN", 100_000)
    monkeypatch.setattr(download, "SLACK", -2 * len(ARCHIVE) + 100_000)
    endless = start(ARCHIVE, length=announced)
    endless.files[NAME] = ARCHIVE * 20
    size = len(ARCHIVE) * 20
    told = f"reports a size of {size:,} bytes; at most 100,000" if announced else "sends more than 100,000 bytes"
    with pytest.raises(UserError, match=told):
        get(tmp_path, endless, source=source)
    assert not list(tmp_path.glob("*.part*")), "or the next run would go on from it"
    assert endless.requests[0].sent < len(ARCHIVE) * 20


def test_every_source_is_bounded():
    for source in download.load_sources().values():
        limit = 2 * source.bytes + download.SLACK if source.bytes else download.LARGEST_UNKNOWN
        assert limit <= 2 << 30


def test_a_size_that_no_file_has_is_no_size(tmp_path, start):
    assert transfer._number("9" * 5000) is None
    assert transfer._number("12") == 12


# --- folders of the user -------------------------------------------------------------------------------------------


def test_an_offline_folder_that_lacks_one_member_names_it(tmp_path):
    (tmp_path / "offline" / "toy").mkdir(parents=True)
    for name in list(MEMBERS)[:2]:
        (tmp_path / "offline" / name).write_bytes(MEMBERS[name])
    for place in (tmp_path / "offline", tmp_path / "offline" / "toy"):
        with pytest.raises(UserError, match="offline: lacks toy/part_2\n"):
            get(tmp_path / "raw", offline=[place])
    for name in MEMBERS:
        (tmp_path / "offline" / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="lacks toy/part_0, toy/part_1, toy/part_2\n"):
        get(tmp_path / "raw", offline=[tmp_path / "offline"])


def test_an_offline_file_that_cannot_be_read_leaves_the_network(tmp_path, start, monkeypatch):
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / NAME).write_bytes(ARCHIVE)
    real = download.digest_of

    def refused(path: Path, like: str = "sha256:") -> str:
        if path.is_relative_to(tmp_path / "offline"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, like)

    monkeypatch.setattr(download, "digest_of", refused)
    get(tmp_path / "raw", start(), offline=[tmp_path / "offline"])
    assert_complete(tmp_path / "raw")


@pytest.mark.parametrize("locked", ["offline", "offline/toy", "offline/toys"])
def test_a_folder_of_another_user_leaves_the_network(tmp_path, start, monkeypatch, caplog, locked):
    for name in ("offline/toy", "offline/toys"):
        (tmp_path / name).mkdir(parents=True)
    real = os.stat

    def refused(path: Path, *arguments: object, **options: object) -> os.stat_result:
        if isinstance(path, str | Path) and tmp_path / locked in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refused)
    if locked != "offline/toys":  # which is looked into only for what `offline` lacks
        with pytest.raises(UserError, match=r"offline: cannot be read \(Permission denied\)\n") as failed:
            get(tmp_path / "raw", offline=[tmp_path / "offline"])
        assert "cannot write" not in str(failed.value)
        assert any("cannot be read (Permission denied)" in message for message in caplog.messages)
    get(tmp_path / "raw", start(), offline=[tmp_path / "offline"])
    assert_complete(tmp_path / "raw")


@pytest.mark.parametrize("source", [SOURCE, UNPUBLISHED], ids=["published", "unpublished"])
def test_an_archive_of_another_user_leaves_the_network(tmp_path, start, monkeypatch, source):
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / NAME).write_bytes(ARCHIVE)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "offline" not in str(path) and real(path, mode))
    with pytest.raises(UserError, match=rf"offline/{NAME}: {NAME} cannot be read\n"):
        get(tmp_path / "raw", offline=[tmp_path / "offline"], source=source)
    get(tmp_path / "raw", start(), offline=[tmp_path / "offline"], source=source)
    assert_complete(tmp_path / "raw")


@pytest.mark.parametrize("content", ["[]", '{"toy.tar.gz": 5}', "nonsense"])
def test_a_damaged_record_of_digests_is_named(tmp_path, content):
    (tmp_path / f"{NAME}.digests.json").write_text(content)
    with pytest.raises(UserError, match=r"toy\.tar\.gz\.digests\.json .*delete it and run again"):
        get(tmp_path, source=UNPUBLISHED)


def test_what_the_disk_says_is_not_the_addresss_fault(tmp_path, start, monkeypatch):
    def broken(file: io.BufferedWriter, chunk: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    second = start()
    monkeypatch.setattr(transfer, "_append", broken)
    with pytest.raises(UserError, match=rf"cannot write .*{NAME}\.part: Input/output error"):
        get(tmp_path, start(), second)
    assert not second.requests


# --- what an archive may hold ---------------------------------------------------------------------------------------


def extracted(folder: Path, content: bytes, members: list[str], limit: int = 1000) -> dict[str, bytes]:
    """What `archives.extract` writes: path → content."""
    (folder / "a.tgz").write_bytes(content)
    archives.extract(folder / "a.tgz", "a.tgz", members, folder / "out", limit)
    return {
        str(path.relative_to(folder / "out")): path.read_bytes()
        for path in (folder / "out").rglob("*")
        if path.is_file()
    }


def test_members_in_folders_of_folders_and_nothing_else(tmp_path):
    content = packed({"./a/b/c/one": b"1", "a/two": b"22", "a/b/three": b"333", "other": b"4"})
    assert extracted(tmp_path, content, ["a/b/c/one", "a/two"]) == {"a/b/c/one": b"1", "a/two": b"22"}


@pytest.mark.parametrize(("limit", "fits"), [(6, True), (5, False)])
def test_the_limit_counts_every_entry_and_is_the_largest_allowed(tmp_path, limit, fits):
    content = packed({"a": b"12", "b": b"3456"})
    with contextlib.nullcontext() if fits else pytest.raises(archives.ArchiveError, match="more than 5 bytes"):
        assert extracted(tmp_path, content, ["a"], limit) == {"a": b"12"}


@pytest.mark.parametrize("path", ["/a", "../a", "a/../../b", "x/.."])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, path):
    with pytest.raises(archives.ArchiveError, match="holds the unsafe path"):
        extracted(tmp_path, packed({"a": b"1", path: b"2"}), ["a"])


def test_a_member_stands_once(tmp_path):
    with pytest.raises(archives.ArchiveError, match="holds a twice"):
        extracted(
            tmp_path,
            gzip.compress(gzip.decompress(packed({"a": b"1"}))[:1024] + gzip.decompress(packed({"a": b"2"}))),
            ["a"],
        )


def test_what_is_missing_is_named_in_order(tmp_path):
    with pytest.raises(archives.ArchiveError, match="^lacks a, c$"):
        extracted(tmp_path, packed({"b": b"1"}), ["c", "b", "a"])


def test_more_content_than_announced_is_refused(tmp_path, monkeypatch):
    def lying(path: Path, most: int) -> Iterator[archives.Entry]:
        yield archives.Entry("a", 3, io.BytesIO(b"1234"))

    monkeypatch.setitem(archives.READERS, ".tgz", lying)
    with pytest.raises(archives.ArchiveError, match="holds more of a than it announces"):
        extracted(tmp_path, b"", ["a"])


@pytest.mark.parametrize("error", [PermissionError("x"), gzip.BadGzipFile("x")])
def test_the_disks_fault_is_not_the_archives(tmp_path, monkeypatch, error):
    def fail(path: Path, most: int) -> Iterator[archives.Entry]:
        raise error

    monkeypatch.setitem(archives.READERS, ".tgz", fail)
    with pytest.raises(PermissionError if isinstance(error, PermissionError) else archives.ArchiveError):
        extracted(tmp_path, b"", ["a"])
