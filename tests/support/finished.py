"""Finished study of ``config/tiny.yaml`` in its own checkout, made by the library, and copies of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from checkout import Checkout, copy_to

from three_regime.analysis import tables
from three_regime.config import Config, load, merge, resolve
from three_regime.jobs.run import run_job
from three_regime.preparation.prepare import prepare
from three_regime.study.grid import Study, study_named
from three_regime.study.stages import STAGES

NAME = "tiny"
FILES = [Path("config.yaml"), Path("config/tiny.yaml")]
OPTIONS = ("--configfile", "config/tiny.yaml")


def tiny(**changes: Any) -> Config:
    """The configuration, read from the working directory, with keys of the study replaced."""
    whole = load(FILES).model_dump(mode="json")
    whole["studies"] = {NAME: merge(whole["studies"][NAME], changes)}
    return resolve(whole)


def study_of(config: Config) -> Study:
    return study_named(config, NAME)


def finish(folder: Path) -> Checkout:
    """Copy the project to `folder` and compute every stage of the study there, and its tables from its results."""
    checkout = copy_to(folder)
    with inside(checkout):
        config = tiny()
        prepare("digits", Path(config.data.folder))
        for stage in STAGES:
            compute(config, stage)
        tables.write(study_of(config))
    return checkout


def compute(config: Config, stage: str) -> None:
    """Run all jobs of a stage."""
    for seed in config.studies[NAME].dense_seeds:
        for temperature in [None] if stage == "dense" else study_of(config).temperatures:
            run_job(config, NAME, stage, seed, temperature)


@contextlib.contextmanager
def inside(checkout: Checkout) -> Iterator[None]:
    """Work in the checkout's folder: the configuration's paths are relative."""
    with contextlib.chdir(checkout.path):
        yield


def copied(source: Checkout, folder: Path, copy: Callable[..., Any] = shutil.copy2) -> Checkout:
    """A copy of a checkout with its results: ``shutil.copy2`` keeps times (``cp -a``), ``shutil.copy`` does not."""
    shutil.copytree(source.path, folder, copy_function=copy)
    return Checkout(folder)


def shuffle_times(checkout: Checkout) -> None:
    """Reverse the times of results and data, as a copy may: the last products are oldest, the data newest."""
    files = [path for part in ("results", "data") for path in (checkout.path / part).rglob("*") if path.is_file()]
    files.sort(key=lambda path: ("data" in path.parts, -len(path.parts), path.name))
    for second, path in enumerate(files):
        os.utime(path, (1_700_000_000 + second, 1_700_000_000 + second))
