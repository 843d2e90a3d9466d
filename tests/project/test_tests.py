"""The tests mirror the packages of the library, and their names fit on one line."""

from __future__ import annotations

import ast
import re

from checkout import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("test_*.py"))
BESIDE = {"cluster", "project", "support"}
"""Folders that are no rooms: a real SLURM; environment, benchmarks and the tests themselves; helpers."""

LONGEST = 60


def functions() -> list[tuple[str, str]]:
    """(file, name) of every test, in the order of the files."""
    return [
        (str(file.relative_to(TESTS)), node.name)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def test_every_folder_is_a_room_of_the_library() -> None:
    folders = {path.relative_to(TESTS) for path in TESTS.rglob("*") if path.is_dir() and any(path.glob("*.py"))}
    assert {folder for folder in folders if folder.parts[0] not in BESIDE} <= {
        path.parent.relative_to(ROOT / "three_regime") for path in (ROOT / "three_regime").rglob("__init__.py")
    }
    assert len(folders) > 15


def test_every_room_has_tests() -> None:
    rooms = {path.parent.name for path in (ROOT / "three_regime").glob("*/__init__.py")}
    assert rooms <= {path.name for path in TESTS.iterdir() if any(path.rglob("test_*.py"))}


def test_names_are_short_and_none_hides_another() -> None:
    found = functions()
    assert len(found) > 1000
    assert not [name for _, name in found if len(name) > LONGEST]
    assert len(set(found)) == len(found)


def test_the_readme_tells_of_every_room_and_of_no_lost_file() -> None:
    text = (TESTS / "README.md").read_text()
    folders = {file.relative_to(TESTS).parts[0] for file in FILES if file.parent != TESTS}
    assert not [folder for folder in folders if f"`{folder}/`" not in text]
    told = {name.split("/")[-1] for name in re.findall(r"`([\w/]*test_\w+)`", text)} - {"test_all"}
    assert told <= {file.stem for file in FILES}
    assert len(told) > 50
