"""Transfers: resumption, retries, giving up, and no mixing of versions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from serving import Server, serving
from toy_source import (
    ARCHIVE,
    HASTY,
    MEMBERS,
    NAME,
    QUICK,
    SOURCE,
    UNPUBLISHED,
    assert_complete,
    get,
    keep_partial,
    packed,
)

from three_regime.errors import UserError
from three_regime.preparation import transfer


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Start servers of the archive; keyword arguments are faults."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        yield lambda content=ARCHIVE, **faults: stack.enter_context(serving(files={NAME: content}, **faults))


# --- resuming ------------------------------------------------------------------------------------------------------


def test_resumes_with_range_and_fetches_only_the_rest(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    keep_partial(tmp_path, ARCHIVE[:200_000], server)
    get(tmp_path, server)
    (request,) = server.requests
    assert (request.range, request.if_range, request.status) == ("bytes=200000-", '"first"', 206)
    assert request.sent == len(ARCHIVE) - 200_000
    assert_complete(tmp_path)


def test_a_new_file_is_asked_for_as_a_whole(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    get(tmp_path, server)
    assert [(request.range, request.if_range, request.status) for request in server.requests] == [(None, None, 200)]


def test_a_changed_file_is_not_glued_to_the_old_start(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start(etag='"second"')
    keep_partial(tmp_path, b"x" * 200_000, server, validator='"first"')
    get(tmp_path, server)
    assert [(request.range, request.status) for request in server.requests] == [("bytes=200000-", 200)]
    assert_complete(tmp_path)


def test_a_server_without_ranges_starts_from_zero(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start(ranges=False)
    keep_partial(tmp_path, ARCHIVE[:200_000], server)
    get(tmp_path, server)
    assert [request.sent for request in server.requests] == [len(ARCHIVE)]
    assert_complete(tmp_path)


def test_truncated_transfers_go_on_where_they_stopped(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start(truncate=140_000)
    get(tmp_path, server)
    assert len(server.requests) >= 4, "more attempts than `tries`, because each brings new bytes"
    assert all(request.status == 206 for request in server.requests[1:])
    assert_complete(tmp_path)


def test_without_a_stated_size_the_published_one_tells(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start(truncate=140_000, length=False)
    get(tmp_path, server)
    assert [request.status for request in server.requests] == [200, 206, 206, 206]
    assert sum(request.sent for request in server.requests) == len(ARCHIVE)
    assert_complete(tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_smaller_version_without_a_size_is_accepted(
    tmp_path: Path, start: Callable[..., Server], ranges: bool
) -> None:
    """Its members match their digests, whatever the published size of the archive."""
    smaller = packed(MEMBERS, level=9)
    published = replace(SOURCE, bytes=len(smaller) + 1000)
    server = start(smaller, length=False, ranges=ranges)
    get(tmp_path, server, source=published)
    assert [request.status for request in server.requests] == ([200, 416] if ranges else [200] * QUICK.tries)
    assert_complete(tmp_path)


def test_a_whole_partial_file_without_a_stated_size_is_used(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    keep_partial(tmp_path, ARCHIVE, server, total=None)
    get(tmp_path, server)
    assert not server.requests
    assert_complete(tmp_path)


def test_another_mirror_continues_the_partial_file(tmp_path: Path, start: Callable[..., Server]) -> None:
    first, second = start(stall=200_000), start(etag='"elsewhere"')
    get(tmp_path, first, second, patience=replace(HASTY, tries=1))
    assert second.requests[0].status == 206
    assert second.requests[0].sent < len(ARCHIVE) - 100_000
    assert_complete(tmp_path)


def test_a_wrong_start_is_fetched_again_from_the_same_mirror(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    keep_partial(tmp_path, b"x" * 200_000)
    get(tmp_path, server)
    assert [request.status for request in server.requests] == [206, 200]
    assert_complete(tmp_path)


def test_a_partial_file_needs_its_origin_or_a_digest(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    keep_partial(tmp_path, ARCHIVE[:200_000])
    get(tmp_path, server, source=UNPUBLISHED)
    assert [request.range for request in server.requests] == [None]
    assert_complete(tmp_path)


@pytest.mark.parametrize("surplus", [0, 1000])
def test_a_partial_file_of_full_size_or_more(tmp_path: Path, start: Callable[..., Server], surplus: int) -> None:
    server = start()
    keep_partial(tmp_path, ARCHIVE + b"x" * surplus, server)
    get(tmp_path, server)
    assert [request.status for request in server.requests] == ([416, 200] if surplus else [])
    assert_complete(tmp_path)


@pytest.mark.parametrize("told", ["", "bytes", "bytes 200000-/", "items 200000-449999/450000", "bytes */*"])
def test_a_range_that_cannot_be_read_starts_from_zero(tmp_path: Path, start: Callable[..., Server], told: str) -> None:
    """Nothing says where those bytes belong: they are not appended."""
    server = start(content_range=told)
    keep_partial(tmp_path, ARCHIVE[:200_000], server)
    get(tmp_path, server)
    assert [request.status for request in server.requests] == [206, 200]
    assert_complete(tmp_path)


# --- faults of servers ---------------------------------------------------------------------------------------------


def test_passing_server_errors_are_retried(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start(errors=2, status=503)
    get(tmp_path, server)
    assert [request.status for request in server.requests] == [503, 503, 200]


def test_a_missing_file_is_not_retried(tmp_path: Path, start: Callable[..., Server]) -> None:
    missing, good = start(errors=9, status=404), start()
    get(tmp_path, missing, good)
    assert len(missing.requests) == 1
    assert_complete(tmp_path)


def test_a_stalling_mirror_is_given_up(tmp_path: Path, start: Callable[..., Server]) -> None:
    stalling, good = start(stall=0), start()
    get(tmp_path, stalling, good, patience=HASTY)
    assert len(stalling.requests) == QUICK.tries
    assert_complete(tmp_path)


def test_a_slow_mirror_yields_to_the_next_and_keeps_its_bytes(tmp_path: Path, start: Callable[..., Server]) -> None:
    slow, good = start(pause=0.1), start()
    get(tmp_path, slow, good, patience=replace(QUICK, slowest=1e6, window=0.5))
    assert good.requests[0].status == 206
    assert_complete(tmp_path)


def test_a_slow_mirror_is_used_when_the_others_fail(tmp_path: Path, start: Callable[..., Server]) -> None:
    slow, bad = start(pause=0.04), start(errors=99, status=404)
    get(tmp_path, slow, bad, patience=replace(QUICK, slowest=1e6, window=0.3))
    assert [request.status for request in slow.requests] == [200, 206]
    assert_complete(tmp_path)


def test_a_web_page_is_named_and_does_not_cost_the_partial_file(tmp_path: Path, start: Callable[..., Server]) -> None:
    page = start(page=True)
    part = keep_partial(tmp_path, ARCHIVE[:200_000], page)
    with pytest.raises(UserError, match="answers with a web page titled 'Please log in'"):
        get(tmp_path, page)
    assert part.read_bytes() == ARCHIVE[:200_000]
    assert len(page.requests) == 1


@pytest.mark.parametrize(
    ("arrivals", "left_after"),
    [
        ([(1, 10), (9, 10)], None),  # not yet a whole window
        ([(10, 100), (20, 100)], None),  # exactly fast enough
        ([(10, 99)], 10),
        ([(10, 100), (20, 99)], 20),  # slows down: what came before does not count
        ([(5, 500), (10, 0), (15, 50), (20, 0)], 20),
    ],
)
def test_every_window_of_time_must_bring_enough(
    monkeypatch: pytest.MonkeyPatch, arrivals: list[tuple[int, int]], left_after: int | None
) -> None:
    """10 bytes a second over windows of 10 s; (second, bytes that arrive then)."""
    now = 0
    monkeypatch.setattr(transfer.time, "monotonic", lambda: float(now))
    pace = transfer._Pace(slowest=10, window=10)
    given_up = None
    for now, arrived in arrivals:
        try:
            pace.check(arrived)
        except transfer.TooSlow:
            given_up = now
            break
    assert given_up == left_after


def test_pauses_double_until_something_arrives(
    tmp_path: Path, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transfer.random, "uniform", lambda *_: 1.0)
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    patience = replace(QUICK, tries=5, first_wait=0.01, longest_wait=0.05)
    with pytest.raises(UserError):
        get(tmp_path, start(errors=99, status=503), patience=patience)
    assert pauses == pytest.approx([0.01, 0.02, 0.04, 0.05])


def test_progress_is_logged_at_least_every_second_interval() -> None:
    request = SimpleNamespace(part=Path("a.part"), progress=False, patience=replace(QUICK, log_every=7.0))
    with transfer._meter(request, 0, 100) as meter:
        assert (meter.mininterval, meter.maxinterval) == (7, 14)
