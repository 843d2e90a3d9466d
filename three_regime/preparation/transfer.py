"""Download one file over HTTP into a partial file, with resuming, retries, size limits, and detection of slow servers.

``<name>.part.json`` beside ``<name>.part`` holds the address, the validator (ETag or Last-Modified) and the full size
of the file. A partial file is resumed only if the server confirms that its file is unchanged (If-Range), or if the
result will be compared with a known digest.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import logging
import random
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import requests
import urllib3
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tqdm import tqdm

from three_regime.errors import UserError
from three_regime.system.files import disk_errors, read_json, write_json

log = logging.getLogger(__name__)

CHUNK = 1 << 16
RETRIED = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_NUMBER = 19
DISK_FULL = "what has arrived is kept: free some space and run again"
"""Advice when the disk is full."""

PAGE = re.compile(rb"\A(\xef\xbb\xbf)?\s*(<!doctype\s+html|<html)", re.IGNORECASE)
TITLE = re.compile(rb"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)


class TransferError(Exception):
    """This address does not provide the file; the message is a clause with the reason."""


class TooSlow(TransferError):
    """The address is too slow; the partial file is kept."""


class _Passing(TransferError):
    """A transient error, to be retried after `pause` seconds if the server named a time."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class _Short(_Passing):
    """Fewer bytes than the published size have arrived from a server that states no size."""


@dataclass(frozen=True)
class Patience:
    """Time limits and retries; times in seconds.

    Attributes
    ----------
    connect, stall
        Timeouts for connecting, and for the next bytes of an open connection.
    tries
        Consecutive attempts without new bytes before an address is given up.
    first_wait, longest_wait
        Pause after the first such attempt, and the bound up to which it doubles; with jitter of up to its own length.
    slowest, window
        Below `slowest` bytes/s over `window` seconds the next address is tried, if there is one.
    log_every
        Interval between log lines if there is no terminal for a progress bar.
    """

    connect: float = 10.0
    stall: float = 60.0
    tries: int = 4
    first_wait: float = 1.0
    longest_wait: float = 60.0
    slowest: float = 250_000.0
    window: float = 20.0
    log_every: float = 30.0


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True)
class _Origin:
    """Origin of a partial file."""

    url: str
    validator: str | None
    total: int | None


def fetch(
    url: str,
    part: Path,
    *,
    expected: int | None = None,
    limit: int | None = None,
    verified_later: bool = False,
    slowest: float = 0.0,
    patience: Patience = DEFAULT_PATIENCE,
    progress: bool = True,
) -> bool:
    """Download `url` to `part`, resuming from what it holds.

    Parameters
    ----------
    expected
        Published size in bytes, if any.
    limit
        Maximum number of bytes to accept.
    verified_later
        Whether the caller compares the result with a known digest, so a partial file of unknown or other origin may be
        resumed.
    slowest
        Raise `TooSlow` below this many bytes/s; 0: never.
    progress
        Draw a progress bar on a terminal; elsewhere progress is logged.

    Returns
    -------
    bool
        Whether `part` held bytes of an earlier call.

    Raises
    ------
    TransferError
        When the address does not provide the file. Bytes that may be useful later are kept.
    UserError
        When the disk is full or not writable; `part` is kept.
    """
    request = _Request(url, part, expected, limit, verified_later, slowest, patience, progress)
    before = best = partial_size(part)
    if before and before == (_full_size(part) or expected):
        return True
    fruitless = 0

    def attempt() -> None:
        nonlocal best, fruitless
        try:
            _attempt(request)
        except _Passing:
            size = partial_size(part)
            fruitless = 1 if size > best else fruitless + 1
            best = max(best, size)
            raise

    def wait(state: RetryCallState) -> float:
        pause = patience.first_wait * 2 ** (fruitless - 1) * random.uniform(1, 2)
        return min(max(pause, state.outcome.exception().pause), patience.longest_wait)

    retrying = Retrying(
        stop=lambda _: fruitless >= patience.tries,
        wait=wait,
        retry=retry_if_exception_type(_Passing),
        before_sleep=lambda state: log.warning("%s: %s; trying again", url, state.outcome.exception()),
        reraise=True,
    )
    try:
        retrying(attempt)
    except _Short as error:
        log.info("%s: %s; it may be another version of the file, so what has arrived is verified", url, error)
    except _Passing as error:
        raise TransferError(f"{error} ({retrying.statistics['attempt_number']} attempts)") from error
    return before > 0


def partial_size(part: Path) -> int:
    """Size of a partial file in bytes; 0 if there is none."""
    return part.stat().st_size if part.is_file() else 0


def discard(part: Path) -> None:
    """Remove a partial file and the record of its origin."""
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Request:
    """The arguments of `fetch`."""

    url: str
    part: Path
    expected: int | None
    limit: int | None
    verified_later: bool
    slowest: float
    patience: Patience
    progress: bool


def _attempt(request: _Request) -> None:
    """Make one request; raise `_Passing` if a retry may help."""
    size, origin = partial_size(request.part), _origin(request.part)
    headers = {"Accept-Encoding": "identity"}
    if size and origin and origin.url == request.url and origin.validator:
        headers |= {"Range": f"bytes={size}-", "If-Range": origin.validator}
    elif size and request.verified_later:
        headers["Range"] = f"bytes={size}-"
    times = (request.patience.connect, request.patience.stall)
    with (
        _translated(request.patience),
        requests.get(request.url, headers=headers, stream=True, timeout=times) as answer,
    ):
        if answer.status_code in (206, 416) and "Range" in headers:
            first, total = _range(answer)
            known = _full_size(request.part) or request.expected
            if answer.status_code == 416 and total == size:
                return
            if answer.status_code == 416 or first != size or (known and total and known != total):
                discard(request.part)
                raise _Passing("the server's file does not continue the partial download; starting over")
            _receive(request, answer.raw.stream(CHUNK, decode_content=False), size, total)
        elif answer.status_code == 200:
            chunks = answer.raw.stream(CHUNK, decode_content=False)
            head = next(chunks, b"")
            _refuse_page(answer, head)
            total = _number(answer.headers.get("Content-Length"))
            if request.limit and total and total > request.limit:
                raise TransferError(f"reports a size of {total:,} bytes; at most {request.limit:,} are expected")
            with disk_errors(request.part, "free some space and run again"):
                discard(request.part)
                write_json(_origin_path(request.part), asdict(_Origin(request.url, _validator(answer), total)))
            _receive(request, itertools.chain([head], chunks), 0, total)
        else:
            _refuse_status(answer)


def _receive(request: _Request, chunks: Iterable[bytes], size: int, total: int | None) -> None:
    """Append `chunks` to a partial file of `size` bytes, until it has `total`, or the expected size if that is None."""
    pace = _Pace(request.slowest, request.patience.window)
    with (
        disk_errors(request.part, DISK_FULL),
        open(request.part, "ab") as file,
        _meter(request, size, total or request.expected) as meter,
    ):
        for chunk in chunks:
            _append(file, chunk)
            size += len(chunk)
            meter.update(len(chunk))
            if request.limit and size > request.limit:
                discard(request.part)  # so the next run does not resume from it
                raise TransferError(f"sends more than {request.limit:,} bytes")
            pace.check(len(chunk))
    if total and size < total:
        raise _Passing(f"the connection closed after {size:,} of {total:,} bytes")
    if total is None and request.expected and size < request.expected:
        raise _Short(f"the connection closed after {size:,} of {request.expected:,} bytes")


def _append(file: IO[bytes], chunk: bytes) -> None:
    file.write(chunk)


class _Pace:
    """Raise `TooSlow` when less than `slowest` bytes/s arrive over a window of time."""

    def __init__(self, slowest: float, window: float) -> None:
        self.slowest, self.window = slowest, window
        self.since, self.count = time.monotonic(), 0

    def check(self, arrived: int) -> None:
        self.count += arrived
        elapsed = time.monotonic() - self.since
        if elapsed < self.window:
            return
        if self.count < self.slowest * elapsed:
            raise TooSlow(f"delivers only {self.count / elapsed / 1000:,.0f} kB/s")
        self.since, self.count = time.monotonic(), 0


@contextlib.contextmanager
def _translated(patience: Patience) -> Iterator[None]:
    """Translate errors of the HTTP libraries into `TransferError`, transient ones into `_Passing`."""
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise TransferError(f"no secure connection ({_cause(error)})") from error
    except requests.ConnectTimeout as error:
        raise _Passing(f"no connection within {patience.connect:g} s") from error
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise _Passing(f"no data for {patience.stall:g} s") from error
    except (requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
        raise _Passing(f"connection failed ({_cause(error)})") from error
    except requests.RequestException as error:
        raise TransferError(str(error)) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        # Errors of the address or its settings, e.g. a missing certificate bundle or an invalid host name. Disk errors
        # have become `UserError` already.
        raise TransferError(f"the request failed ({error})") from error


def _cause(error: BaseException) -> str:
    """The root cause in the chain of exceptions, usually the operating system's reason."""
    while before := error.__cause__ or error.__context__:
        error = before
    return str(error)


def _refuse_status(answer: requests.Response) -> None:
    message = f"HTTP status {answer.status_code} {answer.reason}".rstrip()
    if answer.status_code in RETRIED:
        raise _Passing(message, pause=_number(answer.headers.get("Retry-After")) or 0)
    raise TransferError(message)


def _refuse_page(answer: requests.Response, head: bytes) -> None:
    """Refuse web pages: log-in pages, notices and captive portals have status 200, but no file of ours is HTML."""
    if PAGE.search(head[:1024]) or answer.headers.get("Content-Type", "").startswith("text/html"):
        title = TITLE.search(head)
        text = f" titled {title[1][:80].decode(errors='replace')!r}" if title else ""
        raise TransferError(f"answers with a web page{text} instead of the file")


def _range(answer: requests.Response) -> tuple[int | None, int | None]:
    """First byte and full size from Content-Range; None if not given."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    return (_number(match[1]), _number(match[2])) if match else (None, None)


def _validator(answer: requests.Response) -> str | None:
    """Validator for If-Range: a strong ETag, else Last-Modified."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < _LONGEST_NUMBER else None


def _origin_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _origin(part: Path) -> _Origin | None:
    try:
        return _Origin(**read_json(_origin_path(part)))
    except (UserError, TypeError):  # missing or damaged: the origin of the partial file is unknown
        return None


def _full_size(part: Path) -> int | None:
    """Size of the whole file as its server stated it; None if unknown."""
    origin = _origin(part)
    return origin.total if origin else None


class _LogLines(io.StringIO):
    """Stream that logs each state of the progress bar as a line, used without a terminal."""

    def write(self, text: str) -> int:
        if line := text.strip():
            log.info("%s", line)
        return len(text)


def _meter(request: _Request, size: int, total: int | None) -> tqdm:
    common = {
        "desc": request.part.name.removesuffix(".part"),
        "initial": size,
        "total": total,
        "unit": "B",
        "unit_scale": True,
    }
    if request.progress and sys.stderr.isatty():
        return tqdm(**common)
    line = "{desc}: {n_fmt} of {total_fmt}B, {rate_fmt}, {remaining} left" if total else "{desc}: {n_fmt}B, {rate_fmt}"
    every = request.patience.log_every
    return tqdm(**common, file=_LogLines(), mininterval=every, maxinterval=2 * every, miniters=1, bar_format=line)
