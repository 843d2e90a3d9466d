"""Downloads: verification, refusals, files found on disk, and messages."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import ROOT
from serving import Server, serving
from toy_source import (
    ARCHIVE,
    HASTY,
    MEMBERS,
    NAME,
    POISONED,
    QUICK,
    SOURCE,
    UNPUBLISHED,
    assert_complete,
    get,
    keep_partial,
    link,
    md5,
    packed,
)

from three_regime.errors import UserError
from three_regime.preparation import download, transfer
from three_regime.preparation.download import load_sources, obtain
from three_regime.system.files import read_json


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Start servers of the archive; keyword arguments are faults."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        yield lambda content=ARCHIVE, **faults: stack.enter_context(serving(files={NAME: content}, **faults))


# --- the ordinary course -------------------------------------------------------------------------------------------


def test_downloads_verifies_and_extracts(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    paths = get(tmp_path / "raw", server)
    assert paths == [tmp_path / "raw" / name for name in MEMBERS]
    assert_complete(tmp_path / "raw")
    assert [(request.status, request.sent) for request in server.requests] == [(200, len(ARCHIVE))]


def test_what_is_present_needs_no_network_and_no_write(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    get(tmp_path, server)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    get(tmp_path, server)
    assert len(server.requests) == 1
    assert before == {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}


def test_only_a_damaged_file_is_replaced(tmp_path: Path, start: Callable[..., Server]) -> None:
    get(tmp_path, start())
    (tmp_path / "toy/part_2").write_bytes(b"damaged")
    untouched = (tmp_path / "toy/part_0").stat().st_ino
    get(tmp_path, start())
    assert_complete(tmp_path)
    assert (tmp_path / "toy/part_0").stat().st_ino == untouched


def test_a_plain_file_is_its_own_member(tmp_path: Path) -> None:
    content = MEMBERS["toy/part_0"]
    source = replace(SOURCE, file="digits.mat", digest=md5(content), bytes=len(content), members={})
    with serving(files={"digits.mat": content}) as server:
        paths = obtain(source, tmp_path, mirrors=[f"{server.address}/"], patience=QUICK)
        with pytest.raises(UserError, match="has 6 bytes, expected 150,000"):
            server.files["digits.mat"] = b"broken"
            obtain(source, tmp_path / "other", mirrors=[f"{server.address}/"], patience=QUICK)
    assert paths == [tmp_path / "digits.mat"]
    assert paths[0].read_bytes() == content


def test_lines_in_the_log_tell_the_progress(
    tmp_path: Path, start: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    get(tmp_path, start(pause=0.02), patience=replace(QUICK, log_every=0.05))
    lines = [message for message in caplog.messages if message.startswith(f"{NAME}: ") and "left" in message]
    assert len(lines) >= 3
    assert "451k of 451kB" in lines[-1]
    assert "B/s" in lines[-1]


# --- wrong content -------------------------------------------------------------------------------------------------


def test_a_poisoned_archive_is_refused_and_the_next_mirror_used(
    tmp_path: Path, start: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    get(tmp_path, start(POISONED), start())
    assert any("toy/part_1 has md5" in message for message in caplog.messages)
    assert_complete(tmp_path)


def test_nothing_of_a_poisoned_archive_stays(tmp_path: Path, start: Callable[..., Server]) -> None:
    with pytest.raises(UserError, match=r"toy/part_1 has md5 .*, expected md5 ") as caught:
        get(tmp_path, start(POISONED))
    assert f"has {len(POISONED):,} bytes, expected {len(ARCHIVE):,}" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {f".{NAME}.lock"}


def test_a_repacked_archive_passes_by_its_members(tmp_path: Path, start: Callable[..., Server]) -> None:
    repacked = packed({"read.me": b"hello", **{f"./{name}": content for name, content in MEMBERS.items()}}, level=1)
    assert md5(repacked) != SOURCE.digest
    get(tmp_path, start(repacked))
    assert_complete(tmp_path)


def test_without_member_digests_a_repacked_archive_is_refused(tmp_path: Path, start: Callable[..., Server]) -> None:
    source = replace(SOURCE, members=dict.fromkeys(MEMBERS))
    with pytest.raises(UserError, match="the archive has .* expected"):
        get(tmp_path, start(packed(MEMBERS, level=1)), source=source)
    get(tmp_path, start(), source=source)
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (packed({**MEMBERS, "../evil": b"evil"}), "unsafe path '../evil'"),
        (packed({"toy/../../evil": b"evil", **MEMBERS}), "unsafe path"),
        (packed({**MEMBERS, "/tmp/evil": b"evil"}), "unsafe path '/tmp/evil'"),
        (packed({}, link("toy/part_0", "/etc/passwd", tarfile.SYMTYPE)), "toy/part_0 as a link or a special file"),
        (packed({}, link("toy/part_0", "toy/part_1", tarfile.LNKTYPE)), "toy/part_0 as a link or a special file"),
        (packed({}, link("toy/part_0", "", tarfile.CHRTYPE)), "toy/part_0 as a link or a special file"),
        (packed({}, link("toy", "/tmp", tarfile.SYMTYPE)), "lacks toy/part_0, toy/part_1, toy/part_2"),
        (ARCHIVE[:-5], "is damaged or no archive"),
        (ARCHIVE[:300_000], "is damaged or no archive"),
        (b"rate limit exceeded", "is damaged or no archive"),
        (b"", "is damaged or no archive|lacks"),
    ],
)
def test_unsafe_or_damaged_archives_are_refused(
    tmp_path: Path, start: Callable[..., Server], archive: bytes, reason: str
) -> None:
    raw = tmp_path / "raw"
    with pytest.raises(UserError, match=reason):
        get(raw, start(archive), source=UNPUBLISHED)
    assert {path.name for path in raw.iterdir()} <= {f".{NAME}.lock"}
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, start: Callable[..., Server]) -> None:
    bomb = start(packed({"padding": bytes(1_000_000), **MEMBERS}))
    with pytest.raises(UserError, match="unpacks to more than 999,999 bytes"):
        get(tmp_path, bomb, source=replace(UNPUBLISHED, unpacked_bytes=999_999))
    assert not (tmp_path / "toy").exists()


def test_a_symlinked_folder_cannot_lead_the_extraction_away(tmp_path: Path, start: Callable[..., Server]) -> None:
    archive = packed(MEMBERS, link("toy", str(tmp_path / "elsewhere"), tarfile.SYMTYPE))
    (tmp_path / "elsewhere").mkdir()
    get(tmp_path / "raw", start(archive))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert_complete(tmp_path / "raw")


# --- digests that are not published --------------------------------------------------------------------------------


def test_unpublished_digests_are_recorded_and_then_enforced(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    get(tmp_path, server, source=UNPUBLISHED)
    assert set(read_json(tmp_path / f"{NAME}.digests.json")) == {NAME, *MEMBERS}
    get(tmp_path, server, source=UNPUBLISHED)
    assert len(server.requests) == 1
    (tmp_path / "toy/part_1").unlink()
    with pytest.raises(UserError, match=r"recorded at the first download; delete .*digests.json"):
        get(tmp_path, start(POISONED), source=UNPUBLISHED)
    get(tmp_path, server, source=UNPUBLISHED)
    assert_complete(tmp_path)


# --- offline folders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["archive", "members", "inside", "dataset"])
def test_an_offline_folder_spares_the_network(tmp_path: Path, start: Callable[..., Server], place: str) -> None:
    server, offline = start(), tmp_path / "offline"
    root = offline / "toys" if place == "dataset" else offline
    root.mkdir(parents=True)
    if place in ("archive", "dataset"):
        (root / NAME).write_bytes(ARCHIVE)
    else:
        (root / "toy").mkdir()
        for name, content in MEMBERS.items():
            (root / name).write_bytes(content)
    before = sorted(offline.rglob("*"))
    get(tmp_path / "raw", server, offline=[tmp_path / "nowhere", offline / "toy" if place == "inside" else offline])
    assert not server.requests
    assert_complete(tmp_path / "raw")
    assert sorted(offline.rglob("*")) == before


def test_a_verified_archive_comes_before_unknown_files(tmp_path: Path) -> None:
    """Without digests of members, files beside the archive may be anything."""
    offline = tmp_path / "offline"
    (offline / "toy").mkdir(parents=True)
    for name in MEMBERS:
        (offline / name).write_bytes(b"other")
    source = replace(SOURCE, members=dict.fromkeys(MEMBERS))
    get(tmp_path / "without", offline=[offline], source=source)
    assert (tmp_path / "without/toy/part_0").read_bytes() == b"other"
    (offline / NAME).write_bytes(ARCHIVE)
    get(tmp_path / "raw", offline=[offline], source=source)
    assert_complete(tmp_path / "raw")


def test_a_wrong_file_in_an_offline_folder_is_not_used(tmp_path: Path, start: Callable[..., Server]) -> None:
    offline = tmp_path / "offline"
    offline.mkdir()
    (offline / NAME).write_bytes(POISONED)
    with pytest.raises(UserError, match=r"offline.*toy/part_1 has md5"):
        get(tmp_path / "raw", offline=[offline])
    get(tmp_path / "raw", start(), offline=[offline])
    assert (offline / NAME).read_bytes() == POISONED
    assert_complete(tmp_path / "raw")


def test_an_archive_put_into_the_raw_folder_is_used_and_kept(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(ARCHIVE)
    get(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in MEMBERS} == MEMBERS
    assert (tmp_path / NAME).read_bytes() == ARCHIVE


def test_a_partial_download_goes_when_another_way_succeeds(tmp_path: Path) -> None:
    part = keep_partial(tmp_path / "raw", ARCHIVE[:1000])
    origin = part.with_name(f"{part.name}.json")
    origin.write_text("{}")
    with pytest.raises(UserError):
        get(tmp_path / "raw")
    assert part.exists() and origin.exists(), "a later download resumes it"
    (tmp_path / "offline").mkdir()
    (tmp_path / "offline" / NAME).write_bytes(ARCHIVE)
    get(tmp_path / "raw", offline=[tmp_path / "offline"])
    assert not part.exists() and not origin.exists()
    assert_complete(tmp_path / "raw")


# --- the disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_the_partial_file_and_names_it(
    tmp_path: Path, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    append = transfer._append

    def fills_up(file: io.BufferedWriter, chunk: bytes) -> None:
        if file.tell() > 200_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(file, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_append", fills_up)
        with pytest.raises(UserError, match=rf"no free disk space while writing .*{NAME}\.part"):
            get(tmp_path, server, start())
    kept = (tmp_path / f"{NAME}.part").read_bytes()
    assert len(kept) > 200_000
    assert ARCHIVE.startswith(kept)
    get(tmp_path, server)
    assert server.requests[-1].range == f"bytes={len(kept)}-"
    assert_complete(tmp_path)


def test_a_disk_that_fills_up_while_unpacking_keeps_the_download(
    tmp_path: Path, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    server = start()
    with monkeypatch.context() as patch:
        patch.setattr(download, "extract", no_space)
        with pytest.raises(UserError, match="no free disk space"):
            get(tmp_path, server)
    get(tmp_path, server)
    assert len(server.requests) == 1
    assert_complete(tmp_path)


def test_a_download_outlives_a_kill_while_it_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    content = MEMBERS["toy/part_0"]
    source = replace(SOURCE, file="digits.mat", digest=md5(content), bytes=len(content), members={})
    with serving(files={"digits.mat": content}) as server:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(download, "_settle", killed)
            obtain(source, tmp_path, mirrors=[server.url("digits.mat")], patience=QUICK)
        assert obtain(source, tmp_path, mirrors=[server.url("digits.mat")], patience=QUICK)[0].read_bytes() == content
    assert sum(request.sent for request in server.requests) == len(content)


def test_too_little_space_is_told_before_the_download(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    with pytest.raises(UserError, match=rf"no free disk space in .* for {NAME}: it needs"):
        get(tmp_path, server, source=replace(SOURCE, bytes=10**16))
    assert not server.requests


# --- messages, concurrency -----------------------------------------------------------------------------------------


def test_when_all_fails_the_message_says_what_to_do(tmp_path: Path, start: Callable[..., Server]) -> None:
    broken, page, stalling = start(errors=99, status=503), start(page=True), start(stall=0)
    with pytest.raises(UserError) as caught:
        get(
            tmp_path / "raw",
            broken,
            page,
            stalling,
            offline=[tmp_path],
            patience=HASTY,
            source=replace(SOURCE, urls=("http://127.0.0.1:1/x",)),
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == "toy could not be obtained:"
    assert lines[1] == f"  {tmp_path}: holds no {NAME}"
    assert lines[2].endswith("HTTP status 503 Service Unavailable (3 attempts)")
    assert "web page" in lines[3]
    assert "no data for 0.3 s" in lines[4]
    assert "Connection refused" in lines[5]
    assert len(lines[5]) < 120
    digest = SOURCE.digest.removeprefix("md5:")
    assert (
        lines[6]
        == f"Put {NAME} ({len(ARCHIVE):,} bytes, md5 {digest}) or the folder toy into {tmp_path} and run again."
    )


def test_a_file_without_a_digest_is_put_where_it_is_accepted(tmp_path: Path) -> None:
    source = replace(SOURCE, file="train.de", digest=None, bytes=None, members={})
    raw, offline = tmp_path / "raw", tmp_path / "offline"
    with pytest.raises(UserError, match=r"\nPut train\.de into a folder that data\.offline names and run again\.$"):
        obtain(source, raw)
    offline.mkdir()
    with pytest.raises(UserError, match=rf"\nPut train\.de into {offline} and run again\.$"):
        obtain(source, raw, offline=[offline])
    (offline / "train.de").write_bytes(b"Hallo\n")
    assert obtain(source, raw, offline=[offline])[0].read_bytes() == b"Hallo\n"
    with pytest.raises(UserError, match=rf"\nPut {NAME} into {raw} and run again\.$"):
        obtain(UNPUBLISHED, raw)
    (raw / NAME).write_bytes(ARCHIVE)
    obtain(UNPUBLISHED, raw)


def test_two_processes_download_once(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start(pause=0.01)
    code = (
        "import sys; from pathlib import Path; from toy_source import *;"
        "obtain(SOURCE, Path(sys.argv[1]), mirrors=[sys.argv[2]], patience=QUICK)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), server.url(NAME)]
    paths = os.pathsep.join(map(str, (ROOT / "tests/support", ROOT)))
    processes = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) for _ in range(2)]
    assert [process.wait(timeout=30) for process in processes] == [0, 0]
    assert len(server.requests) == 1
    assert_complete(tmp_path)


# --- the real CIFAR-10 ---------------------------------------------------------------------------------------------


def test_real_cifar10_repacked_truncated_and_resumed(cifar10_batches: Path, tmp_path: Path) -> None:
    source = replace(load_sources()["cifar10"], urls=())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as tar:
        tar.add(cifar10_batches / "cifar-10-batches-py", "cifar-10-batches-py")
    with serving(files={source.file: buffer.getvalue()}, truncate=100_000_000, truncations=1) as server:
        paths = obtain(source, tmp_path, mirrors=[server.url(source.file)], patience=QUICK)
        assert [request.status for request in server.requests] == [200, 206]
        assert sum(request.sent for request in server.requests) < len(buffer.getvalue()) + 1_000_000
    assert [path.stat().st_size for path in paths[:2]] == [31_035_704, 31_035_320]
    assert len(obtain(source, tmp_path)) == 7


def test_real_cifar10_from_an_offline_folder(cifar10_batches: Path, tmp_path: Path) -> None:
    paths = obtain(replace(load_sources()["cifar10"], urls=()), tmp_path, offline=[cifar10_batches])
    assert [path.name for path in paths][-2:] == ["test_batch", "batches.meta"]
