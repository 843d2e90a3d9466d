"""The documentation builds without dead links, and it and the README agree with the code and the archive."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from checkout import ROOT

from benchmarks import faults
from three_regime.analysis import claims_files, figure2
from three_regime.cli import main
from three_regime.config.loading import schema_text
from three_regime.study.outputs import FIGURE2_STUDY

DOCS = ROOT / "docs"
ARCHIVED = sorted((ROOT / "reference" / "obtained").glob("*/*/claims.csv"))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_without_a_dead_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in tmp_path.glob("*.html")}
    assert {path.stem for path in DOCS.glob("*.md")} | {"configuration", "commands"} <= pages
    assert "{{" not in (tmp_path / "results.html").read_text(), "archived results are put in their places"


def test_every_key_of_the_configuration_is_described(generate: ModuleType) -> None:
    page, schema = generate.configuration(), json.loads(schema_text())
    sections = [schema, *(section for section in schema["$defs"].values() if "properties" in section)]
    for key in {key for section in sections for key in section["properties"]}:
        assert f"| `{key}` |" in page


def test_every_command_is_on_its_page(generate: ModuleType) -> None:
    page = generate.commands()
    for name in main.commands:
        assert f"## {name}\n" in page and f"Usage: python -m three_regime {name}" in page


def test_the_readme_is_one_page_whose_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_commands_that_pages_show_exist() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"python -m three_regime ([a-z-]+)", text):
            assert name in main.commands, f"{page.name}: {name}"
        for preset in re.findall(r"PRESET=([a-z0-9-]+)", text):
            shown = f'title="config/{preset}.yaml"' in text  # the page has the reader write it
            assert shown or (ROOT / "config" / f"{preset}.yaml").exists(), f"{page.name}: {preset}"


@pytest.mark.parametrize("table", ARCHIVED, ids=lambda path: path.parent.name)
def test_readme_and_site_count_the_archived_verdicts(table: Path, generate: ModuleType) -> None:
    found = pd.read_csv(table)
    outcomes = ("holds", "fails", "undecided", "not tested")
    counts = ", ".join(f"{name} {(found['outcome'] == name).sum()}" for name in outcomes)
    assert counts in (ROOT / "README.md").read_text(encoding="utf-8")
    page = generate.included((DOCS / "results.md").read_text(encoding="utf-8"))
    for line in claims_files.table_lines(found):
        assert line in page


def test_the_sixteen_seeds_are_reported_as_archived() -> None:
    folder = ROOT / "reference" / "obtained" / "cifar10-cpu-seeds" / "cifar10-cpu-seeds"
    hot, cold = (row for _, row in pd.read_csv(folder / "grid.csv").sort_values("temperature").iterrows())
    error, lmc = (f"{100 * row['test_error']:.1f}" for row in (cold, hot)), (cold["lmc"], hot["lmc"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "LMC −{:.3f} against −{:.3f}".format(*(-value for value in lmc)) in readme
    assert "test error {} and {} %".format(*error) in readme
    cells = pd.read_csv(folder / "cells.csv").pivot(index="dense_seed", columns="temperature", values="sign_change")
    fewer = int((cells[30] < cells[60]).sum())
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    assert f"at least 13 dense seeds; it does in {fewer} (" in page
    shares = [f"{100 * row['sign_change']:.1f}" for row in (hot, cold)]
    assert "({} against {} % on average".format(*shares) in page


STARTS = {"epochs": "pruned weights", "reinitialised": "new weights, same mask", "random-masks": "random mask"}
"""Control of `config/mask-or-weights.yaml` → its name on the page."""


def test_mask_or_weights_is_reported_as_archived() -> None:
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    for control, start in STARTS.items():
        folder = ROOT / "reference" / "obtained" / "mask-or-weights" / f"cifar10-preresnet20-{control}"
        cells = pd.read_csv(folder / "cells.csv").sort_values("temperature")
        assert list(cells["temperature"]) == [80, 160]
        for _, cell in cells.iterrows():
            numbers = [
                f"{100 * cell['test_error']:.2f}",
                *(f"{cell[name]:.3f}".replace("-", "−") for name in ("lmc", "cka_softmax", "agreement")),
                f"{cell['sign_disagreement']:.2f}",
                f"{cell['hessian_top']:.0f}",
                f"{cell['bezier']:.3f}".replace("-", "−"),
            ]
            assert f"| {start} | {cell['temperature']:g} | {' | '.join(numbers)} |" in page, numbers


def test_readme_states_the_obtained_cells_of_figure_2() -> None:
    folder = ROOT / "reference" / "obtained" / "figure2-cells" / FIGURE2_STUDY
    grid = pd.read_csv(folder / "grid.csv").dropna(subset=["test_error", "lmc", "cka_softmax"])
    cells = grid.merge(figure2.wide(figure2.load()).round({"density": 6}), on=["temperature", "density"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(cells) == len(grid) > 0
    assert f"**{len(cells)} of the 144 published cells**" in readme
    for cell in cells.to_dict("records"):
        numbers = [
            f"{cell['temperature']:g}",
            f"{100 * cell['density']:g} %",
            *(f"{100 * cell[f'test_error_{side}']:.2f}" for side in ("y", "x")),
            *(f"{cell[f'lmc_{side}']:.3f}".replace("-", "−") for side in ("y", "x")),
            f"{cell['cka']:.3f}",
            f"{cell['cka_softmax']:.3f}",
        ]
        assert f"| {' | '.join(numbers)} |" in readme, numbers


def test_readme_and_site_tell_the_fault_run_that_is_kept() -> None:
    kept = json.loads((ROOT / "benchmarks/results/faults.json").read_text())["trials"]
    numbers = re.findall(r"\d+", faults.summary([faults.Trial(**trial) for trial in kept]))
    trials, kills, each, correct, refused, wrong = numbers
    page = (DOCS / "faults.md").read_text(encoding="utf-8")
    assert f"Of the {trials} trials, {kills} are SIGKILLs" in page and f"at least {each} in each stage" in page
    rows = re.findall(r"^\| (correct|refused|wrong).*\| (\d+) \|$", page, flags=re.MULTILINE)
    assert rows == [("correct", correct), ("refused", refused), ("wrong", wrong)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    outcomes = (
        f"{correct} runs ended bit-identical, {refused} stopped with a message naming the damaged file, {wrong} were"
    )
    assert f"of {trials} injected faults, {outcomes}" in " ".join(readme.split())


def test_the_map_of_concepts_leads_to_them() -> None:
    """A row of CONTRIBUTING.md names the file of a concept of the paper, and what to look for in it."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (`three_regime/.*`.*) \|$", page, flags=re.MULTILINE)
    assert len(rows) >= 8
    for concept, place in rows:
        for file, name in re.findall(r"`(three_regime/[\w/]+\.py)`(?: \(`(\w+)`\))?", place):
            assert name in (ROOT / file).read_text(encoding="utf-8"), concept
