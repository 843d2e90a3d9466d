"""Jobs that take seconds: tables, verdicts on claims, figures, report; which of them a target needs. No torch.

They are those of ``rules/analysis.smk``, ``rules/figures.smk`` and ``rules/discard.smk``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from three_regime.config import Config
from three_regime.stages import (
    CASE_TABLES,
    CELL_TABLES,
    CLAIM_FILES,
    GRID_FIGURES,
    PUBLISHED,
    REGIME_TABLES,
    RUN_FIGURES,
    SCORECARD_FILES,
    STAGES,
    pack,
)
from three_regime.study import Study, planned
from three_regime.workflow import discard_records

TABLES, FIGURES, DISCARD, REPORT = "tables", "figures", "discard", "report"
"""What may be asked for beside the heavy stages."""

_UPSTREAM = "upstream"
"""Stands for the jobs that are not in the same list."""


@dataclass(frozen=True)
class LightJob:
    """A job by its rule's name without the study's, its files, the rules that it waits for, and the files it reads."""

    rule: str
    files: tuple[Path, ...]
    after: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()


def of_study(owner: Study, asked: Collection[str]) -> list[LightJob]:
    """Tables and claims of a study, and its figures if they are asked for."""
    return _from_results(owner, asked, _results(owner))


def _from_results(owner: Study, asked: Collection[str], results: tuple[Path, ...]) -> list[LightJob]:
    cells = _tables(owner.folder, CELL_TABLES)
    jobs = [LightJob("cells", cells, (_UPSTREAM,), results), *_regimes(owner.folder)]
    if TABLES in asked and owner.config.claims:
        files = tuple(owner.folder / name for name in CLAIM_FILES)
        jobs.append(LightJob("claims", files, ("cells",), _tables(owner.folder, ("cells", "replicas", "pairs"))))
    return jobs + _drawn(owner.folder, GRID_FIGURES + RUN_FIGURES, asked, cells)


def of_published(config: Config, asked: Collection[str]) -> list[LightJob]:
    """The same for the published figure; nothing where it is not shown."""
    if not config.published or not {TABLES, FIGURES} & set(asked):
        return []
    folder = Path(config.results) / PUBLISHED
    cells = LightJob("cells", (folder / "cells.csv",))
    return [cells, *_regimes(folder), *_drawn(folder, GRID_FIGURES, asked, cells.files)]


def over_all_studies(config: Config, asked: Collection[str]) -> list[LightJob]:
    """Case studies and scorecard, which are tables."""
    root, jobs = Path(config.results), []
    grids = tuple(root / name / "grid.csv" for name in config.run)
    if TABLES in asked and config.run:
        jobs.append(LightJob("case_studies", _tables(root / "case_studies", CASE_TABLES), (_UPSTREAM,), grids))
    if TABLES in asked and config.published:
        files = tuple(root / name for name in SCORECARD_FILES)
        jobs.append(LightJob("scorecard", files, (_UPSTREAM,), (*grids, root / PUBLISHED / "cells.csv")))
    return jobs


def of_report(config: Config) -> list[LightJob]:
    """The resolved settings, and the report."""
    root = Path(config.results)
    settings = LightJob("settings", (root / "config.yaml",))
    asked = (TABLES, FIGURES)
    before = [job for owner in planned(config) for job in _from_results(owner, asked, ())]
    before += [*of_published(config, asked), *over_all_studies(config, asked), settings]
    inputs = tuple(path for job in before for path in job.files)
    return [settings, LightJob("build_report", (root / "report.html",), (_UPSTREAM, settings.rule), inputs)]


def of_discarding(owner: Study) -> list[LightJob]:
    """Where a study does not keep all weights, one job for each dense seed and temperature."""
    return [LightJob("discard", (Path(record),), (_UPSTREAM,)) for record in discard_records(owner)]


def to_run(jobs: Sequence[LightJob], *, changed: bool) -> list[LightJob]:
    """The jobs that lack a file, and those that wait for such a job.

    Parameters
    ----------
    changed
        Whether what their list as a whole is made from is to be made again.
    """
    waiting: list[LightJob] = []
    made_again = {_UPSTREAM} if changed else set()
    for job in jobs:
        if made_again.intersection(job.after) or not all(path.exists() for path in job.files):
            waiting.append(job)
            made_again.add(job.rule)
    return waiting


def _results(owner: Study) -> tuple[Path, ...]:
    """The JSON files of every result of a study."""
    return tuple(
        product.outputs[0]
        for seed in owner.config.dense_seeds
        for temperature in owner.temperatures
        for stage in STAGES
        for product in pack(owner, stage, seed, temperature)
    )


def _tables(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    return tuple(folder / f"{name}.csv" for name in names)


def _regimes(folder: Path) -> list[LightJob]:
    return [LightJob("regimes", _tables(folder, REGIME_TABLES), ("cells",), (folder / "cells.csv",))]


def _drawn(
    folder: Path, figures: Sequence[str], asked: Collection[str], cells: tuple[Path, ...] = ()
) -> list[LightJob]:
    files = tuple(folder / "figures" / f"{name}.{kind}" for name in figures for kind in ("pdf", "png", "csv"))
    return [LightJob("draw", files, ("regimes",), _tables(folder, REGIME_TABLES) + cells)] if FIGURES in asked else []
