"""Which tests execute which lines of the library, and how long each takes."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

LIBRARY = "three_regime"

SAVE_EVERY = 20
"""Tests between two writes of the record, which a stopped session continues."""

ENOUGH_CALLS, ENOUGH_LINES = 50, 5_000
"""Calls of a function, and lines within one call, after which a test is taken to have no new lines to show."""

Lines = set[tuple[str, int]]


@dataclass
class Traced:
    """What a test executes: module (a path below the library) → line numbers.

    Parameters
    ----------
    seconds, shared
        Processor time of the test itself, and of the fixtures that it shares with others.
    passed
        Tests that fail or are skipped here judge no mutant.
    """

    seconds: float
    shared: float
    passed: bool
    lines: dict[str, list[int]] = field(repr=False)


class Record:
    """Traced tests by their name, in a JSON file; those of a file that has changed are forgotten.

    `unfinished` are the files with tests that were to be traced, and were not for want of time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        known = json.loads(path.read_text()) if path.exists() else {"files": {}, "tests": {}}
        self.files: dict[str, str] = {
            name: digest for name, digest in known["files"].items() if digest_of(Path(name)) == digest
        }
        self.tests = {name: Traced(**test) for name, test in known["tests"].items() if file_of(name) in self.files}
        self.unfinished: set[str] = set(known.get("unfinished", ()))

    def add(self, name: str, test: Traced) -> None:
        """Add a test that has just been traced."""
        self.tests[name] = test
        self.files.setdefault(file_of(name), digest_of(Path(file_of(name))))
        if len(self.tests) % SAVE_EVERY == 0:
            self.save()

    def save(self) -> None:
        """Write the file whole."""
        tests = {name: asdict(test) for name, test in self.tests.items()}
        text = json.dumps({"files": self.files, "unfinished": sorted(self.unfinished), "tests": tests})
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def reaching(self, module: str, first: int, last: int) -> list[str]:
        """Names of tests that pass and execute one of these lines."""
        return [
            name
            for name, test in self.tests.items()
            if test.passed and any(first <= line <= last for line in test.lines.get(module, ()))
        ]


def file_of(test: str) -> str:
    """The file of a test: ``tests/a/test_b.py`` of ``tests/a/test_b.py::test_c[d]``."""
    return test.split("::")[0]


def digest_of(path: Path) -> str:
    """Digest of a file's bytes; empty without the file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


class Tracer:
    """A plugin of pytest that traces every test that is not yet in the record: room after room, then the others."""

    def __init__(self, record: Record, rooms: Sequence[str], until: float) -> None:
        self.record, self.until = record, until
        self.turns = {room: turn for turn, room in enumerate(rooms)}
        self.library = f"{Path(LIBRARY).resolve()}/"
        self.left: dict[str, None] = {}
        self.modules: dict[str, str] = {}
        self.lines: Lines = set()
        self.calls: dict[CodeType, int] = {}
        self.fixtures: dict[tuple[str, str], tuple[Lines, float]] = {}
        self.shared, self.passed = 0.0, True

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.record.tests]
        items.sort(key=lambda item: self.turns.get(item.nodeid.split("/")[1], len(self.turns)))
        self.left = dict.fromkeys(item.nodeid for item in items)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Keep apart what a shared fixture executes: it counts for every test that asks for it."""
        before, began = set(self.lines), _processor_s()
        self._clear()
        yield
        if fixturedef.scope != "function":
            seconds = _processor_s() - began
            self.fixtures[fixturedef.argname, fixturedef.baseid] = (set(self.lines), seconds)
            self.shared += seconds
        self.lines |= before

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Iterator[None]:
        if time.time() > self.until:
            pytest.exit("time is up", returncode=0)
        self._clear()
        self.shared, self.passed = 0.0, True
        began = _processor_s()
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
        seconds, lines, shared = _processor_s() - began - self.shared, set(self.lines), 0.0
        for name, (more, took) in self._of(item):
            if name in item.fixturenames:
                lines |= more
                shared += took
        self.left.pop(item.nodeid)
        self.record.unfinished = {file_of(name) for name in self.left}
        self.record.add(item.nodeid, Traced(round(seconds, 3), round(shared, 3), self.passed, _by_module(lines)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed = self.passed and not report.failed and not report.skipped

    def pytest_sessionfinish(self) -> None:
        self.record.unfinished = {file_of(name) for name in self.left}
        self.record.save()

    def _of(self, item: pytest.Item) -> Iterator[tuple[str, tuple[Lines, float]]]:
        for (name, base), found in self.fixtures.items():
            if item.nodeid.startswith(base):
                yield name, found

    def _clear(self) -> None:
        self.lines.clear()
        self.calls.clear()

    def _called(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        module = self.modules.get(code.co_filename)
        if module is None:
            path = str(Path(code.co_filename).resolve()) if code.co_filename.startswith("/") else ""
            module = path.removeprefix(self.library) if path.startswith(self.library) else ""
            self.modules[code.co_filename] = module
        if not module or not code.co_flags & inspect.CO_OPTIMIZED:  # a module's or class's body runs once a process
            return None
        calls = self.calls[code] = self.calls.get(code, 0) + 1
        if calls > ENOUGH_CALLS:
            return None
        left = ENOUGH_LINES

        def stepped(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal left
            if event == "line":
                self.lines.add((module, frame.f_lineno))
                left -= 1
                frame.f_trace_lines = left > 0
            return stepped

        self.lines.add((module, frame.f_lineno))
        return stepped


def _processor_s() -> float:
    """Of this process and its children: what others do on the machine does not count."""
    return sum(os.times()[:4])


def _by_module(lines: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for module, line in sorted(lines):
        found.setdefault(module, []).append(line)
    return found
