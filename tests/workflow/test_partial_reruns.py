"""Edits to two finished studies: jobs scheduled and members computed by each, in one table.

Every case runs the same command in a copy of one finished folder. Scheduled jobs that find nothing stale compute
nothing; each case states both numbers. Some cases are real runs; in the others a dry run lists the scheduled jobs, and
all jobs of their stages are then called in this process, which takes a third of the time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tiny_study
import yaml
from checkout import Checkout, copy_to
from processor_time import limited_to

from three_regime.config import load
from three_regime.jobs.run import run_job
from three_regime.preparation.prepare import prepare
from three_regime.study.grid import planned
from three_regime.study.stages import STAGES

pytestmark = pytest.mark.slow

RESULTS = Path("results/edits")

TRAINING = {**tiny_study.TRAINING, "batch_size": 32}

GRID = {
    **tiny_study.STUDY,
    "dataset": {"name": "digits", "train_images": 128, "test_images": 100},
    "dense": {**TRAINING, "epochs": 3},
    "retrain": TRAINING,
    "measure": {"train_images": 64, "cka_images": 64, "last_epochs": 1, "points": 3},
    "resources": tiny_study.TINY["resources"],
}

SETTINGS = {
    "results": str(RESULTS),
    "run": ["first", "second"],
    "published": False,
    "threads": 1,
    "studies": {"first": GRID, "second": {**GRID, "temperatures": [2], "densities": [0.5]}},
}

COMMAND = ("tables", "--configfile", "edits.yaml")

Edit = Callable[[Checkout], None]


def settings(**changes: object) -> Edit:
    """Lay settings over those of studies (``first={...}``), or over the whole (``regimes={...}``)."""

    def edit(checkout: Checkout) -> None:
        whole = yaml.safe_load((checkout.path / "edits.yaml").read_text())
        for name, change in changes.items():
            place = whole["studies"][name] if name in whole["studies"] else whole.setdefault(name, {})
            place.update(change) if isinstance(change, dict) else whole.update({name: change})
        (checkout.path / "edits.yaml").write_text(yaml.safe_dump(whole))

    return edit


def comment(checkout: Checkout) -> None:
    """A comment, and the keys in another order."""
    whole = yaml.safe_load((checkout.path / "edits.yaml").read_text())
    text = "# a note of mine\n" + yaml.safe_dump(dict(reversed(whole.items())), sort_keys=False)
    (checkout.path / "edits.yaml").write_text(text)


def touch(checkout: Checkout) -> None:
    """Scripts, rules and library, as a checkout of another branch and back does."""
    for part in ("scripts", "rules", "three_regime"):
        for path in (checkout.path / part).rglob("*.*"):
            os.utime(path)


def bump(stage: str) -> Edit:
    """Raise a stage's version."""

    def edit(checkout: Checkout) -> None:
        path = checkout.path / "three_regime" / "study" / "stages.py"
        text, count = re.subn(rf'Stage\("{stage}", (\d+),', rf'Stage("{stage}", 99,', path.read_text())
        assert count == 1
        path.write_text(text)

    return edit


def delete(pattern: str) -> Edit:
    def edit(checkout: Checkout) -> None:
        found = list((checkout.path / RESULTS).glob(pattern))
        assert found
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return edit


def fresh_clone(copy: Callable) -> Edit:
    """The results alone, in a clone that has no record of them; ``cp -r`` gives new times, ``cp -a`` keeps them."""

    def edit(checkout: Checkout) -> None:
        shutil.rmtree(checkout.path / ".snakemake")
        for part in ("results", "data"):
            aside = checkout.path / f"{part}-original"
            (checkout.path / part).rename(aside)
            shutil.copytree(aside, checkout.path / part, copy_function=copy)
            shutil.rmtree(aside)

    return edit


def both(*edits: Edit) -> Edit:
    def edit(checkout: Checkout) -> None:
        for each in edits:
            each(checkout)

    return edit


def heavy(study: str, **jobs: int) -> dict[str, int]:
    return {f"{stage}_{study}": count for stage, count in jobs.items()}


def tables(*studies: str) -> dict[str, int]:
    """Jobs of the tables, which take seconds: of these studies, and over all."""
    return {**{f"{rule}_{study}": 1 for study in studies for rule in ("cells", "regimes")}, "case_studies": 1}


@dataclass(frozen=True)
class Case:
    """An edit; jobs by rule; members computed by study and stage (``"first retrain"``), zeros left out.

    `whole` cases run Snakemake: where it keeps records, adopts, discards, or imports an edited library.
    """

    edit: Edit
    jobs: dict[str, int]
    members: dict[str, int] = field(default_factory=dict)
    command: tuple[str, ...] = COMMAND
    says: str = ""
    whole: bool = False


NEW_RATE = settings(second={"retrain": {**TRAINING, "learning_rate": 0.05}})

OF_NEW_RATE = {"second retrain": 2, "second lmc": 1, "second cka": 1}

CASES = {
    "nothing": Case(lambda _: None, {}),
    "a comment in the configuration": Case(comment, {}),
    "scripts, rules and library touched": Case(touch, {}),
    "one study's learning rate": Case(
        NEW_RATE, {**heavy("second", retrain=1, lmc=1, cka=1), **tables("second")}, OF_NEW_RATE,
        whole=True,
    ),
    "a density more": Case(
        settings(first={"densities": [0.1, 0.3, 0.5]}),
        {**heavy("first", prune=2, retrain=2, lmc=2, cka=2), **tables("first")},
        {"first prune": 2, "first retrain": 4, "first lmc": 2, "first cka": 2},
    ),
    "a density less": Case(
        settings(first={"densities": [0.5]}),
        # Their sets of inputs changed, so Snakemake asks; they answer without torch that nothing is stale.
        {**heavy("first", retrain=2, lmc=2, cka=2), **tables("first")},
        whole=True,
    ),
    "a colder temperature": Case(
        settings(second={"temperatures": [2, 3]}),
        {**heavy("second", dense=1, prune=2, retrain=2, lmc=2, cka=2), **tables("second")},
        {"second dense": 1, "second prune": 1, "second retrain": 2, "second lmc": 1, "second cka": 1},
        says="dense, seed 1: continues after epoch 2, step 0",
    ),
    "a replica more": Case(
        settings(second={"replicas": [1, 2, 3]}),
        {**heavy("second", retrain=1, lmc=1, cka=1), **tables("second")},
        {"second retrain": 1, "second lmc": 2, "second cka": 2},
    ),
    "a dense seed more": Case(
        settings(second={"dense_seeds": [1, 2]}),
        {**heavy("second", dense=1, prune=1, retrain=1, lmc=1, cka=1), **tables("second")},
        {"second dense": 1, "second prune": 1, "second retrain": 2, "second lmc": 1, "second cka": 1},
    ),
    "points of the line": Case(
        settings(first={"measure": {**GRID["measure"], "points": 5}}),
        {**heavy("first", lmc=2), **tables("first")},
        {"first lmc": 4},
    ),
    "threshold of a regime": Case(
        settings(regimes={"lmc": -0.05}), {"regimes_first": 1, "regimes_second": 1, "case_studies": 1}
    ),
    "threshold of one study": Case(
        settings(second={"regimes": {"lmc": -0.05}}), {"regimes_second": 1, "case_studies": 1}
    ),
    "the published figure drawn too": Case(
        settings(published=True), {"published": 1, "regimes_published": 1, "scorecard": 1}
    ),
    "a stage's version": Case(
        bump("retrain"),
        {**heavy("first", retrain=2, lmc=2, cka=2), **heavy("second", retrain=1, lmc=1, cka=1),
         **tables("first", "second")},
        # Equal tensors come out, so that what was measured on them stands.
        {"first retrain": 8, "second retrain": 2},
        whole=True,
    ),
    "a version of measuring": Case(
        bump("cka"),
        {**heavy("first", cka=2), **heavy("second", cka=1), **tables("first", "second")},
        {"first cka": 4, "second cka": 1},
        whole=True,
    ),
    "an output deleted": Case(
        delete("first/seed1/epochs001/density010/replica2/retrained.safetensors"),
        heavy("first", retrain=1),
        {"first retrain": 1},
        command=("first_retrained", *COMMAND[1:]),
    ),
    "a target of one study and stage": Case(
        delete("second"),
        heavy("second", dense=1, prune=1, retrain=1, lmc=1),
        # The long run's state was kept: its last epoch is written again without training.
        {"second dense": 1, "second prune": 1, "second retrain": 2, "second lmc": 1},
        command=("second_lmc", *COMMAND[1:]),
    ),
    "results copied with new times": Case(
        fresh_clone(shutil.copy), tables("first", "second"), says="14 jobs were recorded", whole=True
    ),
    "results copied with their times": Case(
        fresh_clone(shutil.copy2), tables("first", "second"), says="14 jobs were recorded", whole=True
    ),
    "results copied with their times, a setting changed": Case(
        both(fresh_clone(shutil.copy2), NEW_RATE),
        {**heavy("second", retrain=1, lmc=1, cka=1), **tables("first", "second")},
        OF_NEW_RATE,
        says="retrain, stale: ",
        whole=True,
    ),
    "weights that are not kept": Case(
        settings(first={"keep": "endpoints"}), {"discard_first": 2}, command=("discarded", *COMMAND[1:]), whole=True
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Both studies, computed in this process and adopted by the workflow, which makes their tables."""
    checkout = copy_to(tmp_path_factory.mktemp("edits") / "finished")
    (checkout.path / "edits.yaml").write_text(yaml.safe_dump(SETTINGS))
    with contextlib.chdir(checkout.path):
        config = load([Path("config.yaml"), Path("edits.yaml")])
        prepare("digits", Path(config.data.folder))
        for study in planned(config):
            for stage in STAGES:
                for temperature in [None] if stage == "dense" else study.temperatures:
                    run_job(config, study.name, stage, 1, temperature)
    output = checkout.run(*COMMAND)
    assert "Snakemake has no record of the results of first, second: adopting them" in output
    assert jobs(output) == tables("first", "second")
    return checkout


@pytest.mark.parametrize("name", CASES)
def test_an_edit_computes_what_it_must_and_no_more(
    finished: Checkout, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    case = CASES[name]
    own = Checkout(tmp_path / "own")
    shutil.copytree(finished.path, own.path, copy_function=shutil.copy2)
    case.edit(own)
    if case.whole:
        output = own.run(*case.command)
        assert members(output) == case.members
    else:
        output = own.run("--dry-run", *case.command)
        caplog.set_level(logging.INFO, logger="three_regime")
        assert called(own, case.jobs) == case.members
        output += caplog.text
    assert jobs(output) == case.jobs
    assert case.says in output
    if name in ("a density less", "results copied with their times, a setting changed"):
        assert own.planned(*case.command) == {}, "and then there is nothing left"


def called(checkout: Checkout, scheduled: dict[str, int]) -> dict[str, int]:
    """Study and stage → members that all jobs of the stages with a scheduled job compute, zeros left out."""
    found = {}
    with contextlib.chdir(checkout.path):
        config = load([Path("config.yaml"), Path("edits.yaml")])
        for study, stage in ((study, stage) for study in planned(config) for stage in STAGES):
            if f"{stage}_{study.name}" in scheduled:
                packs = [
                    (seed, temperature)
                    for seed in study.config.dense_seeds
                    for temperature in ([None] if stage == "dense" else study.temperatures)
                ]
                found[f"{study.name} {stage}"] = sum(
                    run_job(config, study.name, stage, *pack).computed for pack in packs
                )
    return {name: count for name, count in found.items() if count}


def jobs(output: str) -> dict[str, int]:
    """Rule → jobs that ran, without targets."""
    if "Job stats:" not in output:
        assert "Nothing to be done" in output
        return {}
    table = output.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
    counts = {line.split()[0]: int(line.split()[1]) for line in table if line.strip()}
    targets = ("total", "tables", "discarded", "first_retrained", "second_lmc")
    return {rule: count for rule, count in counts.items() if rule not in targets}


def members(output: str) -> dict[str, int]:
    """Study and stage → members computed, as the jobs said."""
    found: Counter[str] = Counter()
    for stage, study, computed in re.findall(r"INFO (\w+) (\w+) seed\d+.*: (\d+) computed, \d+ kept", output):
        found[f"{study} {stage}"] += int(computed)
    return {name: count for name, count in found.items() if count}


def test_a_pack_with_nothing_stale_does_nothing(finished: Checkout) -> None:
    """Its job imports no torch, which takes longer than all else that it does."""
    command = ["-m", "three_regime", "run-stage", "retrain", "--study", "first", "--temperature", "2",
               "--base", "config.yaml", "--configfile", "edits.yaml"]  # fmt: skip
    with limited_to(3):  # its start included
        ended = subprocess.run(
            [sys.executable, *command], cwd=finished.path, env=finished.without("torch"), capture_output=True, text=True
        )
    assert "retrain first seed1 epochs002: 0 computed, 4 kept" in ended.stderr
