"""Trace the tests and try mutants, within the copy of the project that `benchmarks.mutants` has made."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import pytest

from benchmarks.mutants.mutation import Mutant, drawn
from benchmarks.mutants.reach import LIBRARY, Record, Traced, Tracer, file_of

BLIND = ("cluster", "project", "workflow")
"""Folders of tests that are not asked: they run the library in processes of their own, which no tracer sees."""

NOT_FAST = "slow or cluster"

PRELOADED = (
    "numpy", "pandas", "scipy.stats", "scipy.optimize", "sklearn.datasets", "torch", "torch.func",
    "safetensors.numpy", "safetensors.torch", "matplotlib.pyplot", "seaborn", "contourpy", "pydantic", "yaml",
    "filelock", "humanfriendly", "requests", "sentencepiece", "tabulate", "tenacity", "tqdm", "click", "psutil",
    "http.server", "fairseq",
)  # fmt: skip
"""What the library imports, imported once: each trial is a fork of this process."""

ELSEWHERE_S, IN_THE_ROOM_S = 20.0, 10.0
"""Seconds that a test in another file waits behind those of the module's own: one of another room, one nearer."""

UNTRACED_S = 5.0
"""What a file of tests is taken to need that the time did not suffice to trace."""

GRACE_S, LONGEST_S = 20.0, 600.0
"""A trial may use this and three times the processor time of its tests, and take so long; a mutant that needs more
hangs, and counts as killed."""

OPTIONS = (
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "--tb=line",
    "-W",
    "ignore",
    "-m",
    f"not ({NOT_FAST})",
)


@dataclass(frozen=True)
class Trial:
    """What became of a mutant.

    Parameters
    ----------
    outcome
        ``killed``, ``hung`` (killed by time), ``survived``, or ``unreached``: no test executes the line.
    test
        The test that failed.
    reaching, ran
        Tests that execute the line, and how many of them ran: no more than the seconds allowed.
    """

    module: str
    line: int
    operator: str
    about: str
    before: str
    after: str
    key: str
    outcome: str
    test: str = ""
    reaching: int = 0
    ran: int = 0
    seconds: float = 0.0


def fast_files() -> list[str]:
    """Files of tests that a tracer can see."""
    return [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if path.parts[1] not in BLIND]


def trace(rooms: Sequence[str], until: float) -> Record:
    """Trace every fast test that the record does not hold yet, until that time, those of these rooms first."""
    record = Record(Path("reach.json"))
    if until <= time.time():
        return record

    def run() -> int:
        tracer = Tracer(record, rooms, until)
        return pytest.main([*OPTIONS[1:], f"--basetemp={_temporary()}", *fast_files()], plugins=[tracer])

    _in_a_fork(run, Path("reach.log"), until + 600 - time.time())
    return Record(Path("reach.json"))


def distance(module: str, test: str) -> float:
    """How far a test is from a module: 0 in the file named after it, then its room and importers, then all others."""
    own = PurePosixPath(module)
    file = PurePosixPath(file_of(test)).relative_to("tests")
    if file == own.with_name(f"test_{own.name}"):
        return 0.0
    near = (own.parts[:-1] and file.parts[0] == own.parts[0]) or imports(file_of(test), module)
    return IN_THE_ROOM_S if near else ELSEWHERE_S


@functools.cache
def imports(file: str, module: str) -> bool:
    """Whether a file of tests names a module of the library in an import of its own."""
    package, _, name = f"{LIBRARY}/{module.removesuffix('.py')}".replace("/", ".").rpartition(".")
    pattern = rf"^(from {package}\.{name} import|import {package}\.{name}\b|from {package} import .*\b{name}\b)"
    return Path(file).exists() and re.search(pattern, Path(file).read_text(), flags=re.MULTILINE) is not None


def chosen(record: Record, untraced: Sequence[str], mutant: Mutant, seconds: float) -> tuple[list[str], list[str]]:
    """(Tests that reach the mutant, those of them to run within so many seconds, nearest and quickest first)."""
    found = (record.reaching(mutant.module, first, last) for first, last in mutant.spans)
    reaching = next(filter(None, found), [])
    # Of files that are not traced, those of the room and those that import the module may reach it; they run whole.
    reaching += [file for file in untraced if distance(mutant.module, file) < ELSEWHERE_S]
    tests = sorted(reaching, key=lambda name: distance(mutant.module, name) + _of(record, name).seconds)
    run, total, shared = [], 0.0, set()
    for name in tests:
        test = _of(record, name)
        cost = test.seconds + (0.0 if test.shared in shared else test.shared)
        if total + cost <= seconds:
            run.append(name)
            total += cost
            shared.add(test.shared)
    return reaching, run


def _of(record: Record, name: str) -> Traced:
    return record.tests.get(name, Traced(UNTRACED_S, 0.0, True, {}))


def attempt(record: Record, untraced: Sequence[str], mutant: Mutant, seconds: float) -> Trial:
    """Change the copy, run the tests, and put the copy back."""
    reaching, run = chosen(record, untraced, mutant, seconds)
    began = time.monotonic()
    outcome, test = "unreached", ""
    if run:
        expected = sum(_of(record, name).seconds for name in run)
        expected += sum({_of(record, name).shared for name in run})

        def tests() -> int:
            most = int(GRACE_S + 3 * expected)
            resource.setrlimit(resource.RLIMIT_CPU, (most, most))
            return pytest.main([*OPTIONS, f"--basetemp={_temporary()}", *run])

        with _changed(mutant):
            code = _in_a_fork(tests, Path("trial.log"), LONGEST_S)
        outcome = {0: "survived", None: "hung", -signal.SIGXCPU: "hung", -signal.SIGKILL: "hung"}.get(code, "killed")
        test = _failed(Path("trial.log")) if outcome == "killed" else ""
    elif reaching:
        outcome = "survived"
    return Trial(
        mutant.module, mutant.line, mutant.operator, mutant.about, mutant.before, mutant.after, mutant.key,
        outcome, test, len(reaching), len(run), round(time.monotonic() - began, 1),
    )  # fmt: skip


def run(wanted: dict[str, int], seed: str, seconds: float, until: float, tests: str) -> None:
    """Try the mutants that the seed draws, module by module in turn, until all are tried or the time is up.

    Parameters
    ----------
    wanted
        Module → number of mutants.
    seconds
        Of tests, for each mutant.
    tests
        Digest of the tests: survivors of other tests are tried again.
    """
    path = Path("trials.jsonl")
    earlier = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {one["key"] for one in earlier if one["outcome"] in ("killed", "hung") or one["tests"] == tests}
    turns: list[tuple[float, Mutant]] = []
    for module, number in wanted.items():
        mutants = drawn(module, (Path(LIBRARY) / module).read_text(), number, seed)
        turns += [(place / len(mutants), mutant) for place, mutant in enumerate(mutants)]
    turns.sort(key=lambda turn: turn[0])  # so that a stop leaves no module out
    left = [mutant for _, mutant in turns if mutant.key not in done]
    record = Record(Path("reach.json"))
    untraced = [file for file in fast_files() if file not in record.files or file in record.unfinished]
    print(f"{len(turns)} mutants, {len(left)} to try", flush=True)
    _preload()
    with path.open("a", buffering=1) as trials:
        for place, mutant in enumerate(left):
            if time.time() > until:
                print(f"time is up: {len(left) - place} are left; the same command continues", flush=True)
                break
            trial = attempt(record, untraced, mutant, seconds)
            trials.write(json.dumps({**asdict(trial), "tests": tests, "seed": seed}) + "\n")
            print(f"{place + 1}/{len(left)} {trial.outcome:9} {mutant.module}:{mutant.line} {mutant.about}", flush=True)


def _preload() -> None:
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # a fork cannot use a pool of threads that its parent has started
    loaded = [name for name in sys.modules if name.split(".")[0] == LIBRARY]
    if loaded:
        raise RuntimeError(f"{loaded[0]} is imported before it is changed")


def _temporary() -> Path:
    folder = Path("../temporary").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _failed(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return next(
        (line.split(" - ")[0].split(maxsplit=1)[1] for line in lines if line.startswith(("FAILED ", "ERROR "))), ""
    )


@contextlib.contextmanager
def _changed(mutant: Mutant) -> Iterator[None]:
    path = Path(LIBRARY) / mutant.module
    text = path.read_text()
    try:
        path.write_text(mutant.text)
        yield
    finally:
        path.write_text(text)


def _in_a_fork(run: Callable[[], int], log: Path, seconds: float) -> int | None:
    """Exit code of `run` in a fork of this process with its output in `log`; None when it took too long."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = 3
        try:
            code = int(run())
        finally:
            sys.stdout.flush()
            os._exit(code)
    until = time.monotonic() + seconds
    code: int | None = None
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # or what the tests have left behind
    if code is None:
        os.waitpid(child, 0)
    return code


def main() -> None:
    """What `benchmarks.mutants` asks for, as JSON on standard input."""
    asked = json.load(sys.stdin)
    sys.dont_write_bytecode = True  # a module that is changed twice within a second must not be taken from a cache
    print("tracing the tests", flush=True)
    rooms = list(dict.fromkeys(module.split("/")[0] for module in asked["modules"]))
    record = trace(rooms, asked["traced_until"])
    passed = sum(test.passed for test in record.tests.values())
    print(f"{len(record.tests)} tests traced, {passed} of them pass here", flush=True)
    run(asked["modules"], asked["seed"], asked["seconds"], asked["until"], asked["tests"])


if __name__ == "__main__":
    main()
