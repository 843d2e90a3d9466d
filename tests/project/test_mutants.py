"""`make mutants`: what is changed, which tests are asked, and what is told of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import ROOT

from benchmarks.mutants import report
from benchmarks.mutants.__main__ import CORE, LIBRARY
from benchmarks.mutants.mutation import drawn, mutants
from benchmarks.mutants.session import distance

SOURCE = '''"""Words + words."""

import logging

log = logging.getLogger(__name__)
LIMIT: int = 3


def smaller(first: int, second: int = 2) -> int:
    """Not 1 < 2."""
    log.info("1 + 1 = %d", 2)
    if first > LIMIT and not second:
        raise ValueError(f"{first} > {LIMIT}")
    return min(first, second)
'''


def changes(source: str) -> set[str]:
    return {mutant.after for mutant in mutants("toy.py", source)}


def test_code_is_changed_and_words_are_not():
    found = {(mutant.before, mutant.after) for mutant in mutants("toy.py", SOURCE)}
    test, smallest = "if first > LIMIT and not second:", "return min(first, second)"
    assert found == {
        ("LIMIT: int = 3", "LIMIT: int = 4"),
        ("LIMIT: int = 3", "LIMIT: int = 2"),
        ("def smaller(first: int, second: int = 2) -> int:", "def smaller(first: int, second: int = 3) -> int:"),
        ("def smaller(first: int, second: int = 2) -> int:", "def smaller(first: int, second: int = 1) -> int:"),
        ('log.info("1 + 1 = %d", 2)', 'return first log.info("1 + 1 = %d", 2)'),
        (test, "if first >= LIMIT and not second:"),
        (test, "if first <= LIMIT and not second:"),
        (test, "if first > LIMIT or not second:"),
        (test, "if first > LIMIT and (second):"),
        (test, "if (not (first > LIMIT and not second)):"),
        (test, "if (False and (first > LIMIT and not second)):"),
        ('raise ValueError(f"{first} > {LIMIT}")', "pass"),
        (smallest, "return max(first, second)"),
    }


def test_what_no_behaviour_depends_on_is_left_alone():
    assert changes("x = list(zip(a, b, strict=True))") == changes("x = list(zip(a, b))") == set()
    assert changes("x: int = f(1, description='train')") == {
        "x: int = f(2, description='train')", "x: int = f(0, description='train')"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x = [a for a in b if a]", "x = [a for a in b if True]"),
        ("x += 1", "x -= 1"),
        ("x = a.mean() * 2", "x = a * 2"),
        ("x = f(a, b, c=1)", "x = f(a, b, )"),
        ("x = f(a, b)", "x = f(b, a)"),
        ("x = {'train': 1, 'test': 2}", "x = { 'test': 2}"),
        ("x = a['train']", 'x = a["test"]'),
        ("x = a.error", "x = a.nll"),
        ("x = a / b", "x = a"),
        ("for a in b:\n    continue", "pass"),
        ("a.append(1)", "pass"),
    ],
)
def test_each_operator_makes_its_change(source, changed):
    assert changed in changes(source)


def test_every_mutant_of_the_core_is_another_program():
    for module in ("pruning/allocation.py", "landscape/linear_cka.py"):
        text = (LIBRARY / module).read_text()
        found = mutants(module, text)
        assert len(found) > 20 and len({mutant.key for mutant in found}) == len(found)
        for mutant in found:
            compile(mutant.text, module, "exec")
            assert mutant.text != text and mutant.spans[-1] == (1, 10**6)
            assert mutant.spans[0][0] <= text.count("\n") and all(first <= last for first, last in mutant.spans)


def test_a_seed_draws_the_same_mutants_over_many_lines():
    text = (LIBRARY / "landscape/mode_connectivity.py").read_text()
    first, again, other = (drawn("a.py", text, 12, seed) for seed in "112")
    assert [mutant.key for mutant in first] == [mutant.key for mutant in again] != [mutant.key for mutant in other]
    assert len({mutant.line for mutant in first}) == 12


def test_tests_of_the_room_come_first(monkeypatch):
    tests = [f"tests/{name}::test_a" for name in (
        "study/test_products.py", "tasks/images/test_sparse.py", "tasks/images/test_task.py", "test_random_streams.py",
    )]  # fmt: skip
    assert sorted(tests, key=lambda test: distance("tasks/images/task.py", test)) == [
        tests[2], tests[1], tests[0], tests[3],
    ]  # fmt: skip
    assert distance("random_streams.py", tests[3]) == 0 < distance("errors.py", tests[3])
    monkeypatch.chdir(ROOT)
    importing, other = (f"tests/exchange/{name}.py::test_a" for name in ("test_checkpoint_files", "test_redraw"))
    assert distance("models/matching.py", importing) < distance("models/matching.py", other)


def test_core_and_equivalents_are_of_this_library():
    assert [module for module in CORE if not (LIBRARY / module).is_file()] == []
    for module, before, _ in report.known_equivalents():
        assert before in " ".join((LIBRARY / module).read_text().split()), f"{module}: {before}"
    assert all(report.known_equivalents().values()), "each says why"


def trial(outcome: str, line: int = 1, module: str = "a.py", after: str = "y") -> dict:
    return {"module": module, "line": line, "about": "", "before": "x", "after": after, "key": f"{module}{line}",
            "outcome": outcome, "reaching": 3, "ran": 2}  # fmt: skip


def test_equivalent_mutants_do_not_count():
    known = {("a.py", "x", "same"): "no difference"}
    trials = [trial("killed"), trial("hung", 2), trial("survived", 3), trial("survived", 4, after="same"),
              trial("unreached", 5, "b.py")]  # fmt: skip
    assert report.count(trials, known) == report.Counts(killed=2, survived=2, equivalent=1)
    assert report.count(trials, known).rate == 0.5
    assert report.summary(trials, known) == (
        "Of 5 mutants of 2 modules 1 behave as the library does; of the other 4 the tests kill 2: 50.0%.\n"
    )
    text = report.table(trials, known)
    assert "no difference" in text and "2 of 3" in text and "no test executes it" in text
    assert report.latest([trial("survived"), trial("killed")]) == [trial("killed")]


TESTS = """
from three_regime.room.toy import smaller

def test_smaller():
    assert smaller(1) == 1
"""


@pytest.mark.slow
def test_a_session_kills_and_keeps_and_puts_back(tmp_path: Path) -> None:
    """In a project of one module; a test that failed before judges nothing."""
    text = "def smaller(first, second=2):\n    return min(first, second)\n"
    for name, content in {
        "three_regime/__init__.py": "",
        "three_regime/room/__init__.py": "",
        "three_regime/room/toy.py": text,
        "tests/room/test_toy.py": TESTS,
        "tests/room/test_bad.py": f"{TESTS}\n    assert smaller(1) == 2\n",
    }.items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    asked = {"modules": {"room/toy.py": 99}, "seed": "1", "seconds": 9, "tests": "x"}
    asked |= {"traced_until": time.time() + 600, "until": time.time() + 600}
    code = "from benchmarks.mutants import session; session.PRELOADED = (); session.main()"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'copy'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}

    def session() -> str:
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path / "copy", env=environment, input=json.dumps(asked), text=True,
            capture_output=True, check=True, timeout=600,
        ).stdout  # fmt: skip

    assert "2 tests traced, 1 of them pass here" in session()
    lines = (tmp_path / "copy/trials.jsonl").read_text().splitlines()
    trials = {one["after"]: one for one in map(json.loads, lines)}
    assert trials["return max(first, second)"]["outcome"] == "killed"
    assert trials["return max(first, second)"]["test"] == "tests/room/test_toy.py::test_smaller"
    assert trials["def smaller(first, second=3):"]["outcome"] == "survived"
    assert (tmp_path / "copy/three_regime/room/toy.py").read_text() == text
    assert "0 to try" in session(), "what is known is not tried again"
