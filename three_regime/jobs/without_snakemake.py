"""Run a stage of a study without Snakemake: the same jobs, one after another."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeVar

from three_regime.config import Config, load
from three_regime.errors import UserError
from three_regime.jobs.discarding import discard
from three_regime.jobs.job import title
from three_regime.study.grid import Study, planned, study_named
from three_regime.study.load_grids import load_grids
from three_regime.study.products import pack
from three_regime.study.stages import STAGES
from three_regime.study.table_sources import refuse_other_tables
from three_regime.study.verdicts import judge
from three_regime.system import places

log = logging.getLogger(__name__)

Value = TypeVar("Value", int, float)

BEFORE = {
    "data": "prepare",
    "dense": "dense",
    "rewound": "dense",
    "pruned": "prune",
    "first": "retrain",
    "second": "retrain",
    "third": "retrain",
}
"""Role of an input file → the stage that writes it."""


def run_stage(
    stage: str,
    configfiles: Sequence[Path],
    name: str | None = None,
    seeds: Sequence[int] = (),
    temperatures: Sequence[float] = (),
) -> None:
    """Bring a stage of a study up to date, as Snakemake would.

    Parameters
    ----------
    stage
        A key of ``STAGES``; ``prepare``: download and prepare the data; ``tables``: build every table and figure from
        the results so far; or ``discard``: remove the weights that the study does not keep.
    configfiles
        YAML files; later ones override earlier ones.
    name
        Study; None: the only one in the configuration's `run`.
    seeds, temperatures
        Dense seeds and values of the knob; empty: all of the study. ``prepare`` and ``tables`` ignore them.

    Raises
    ------
    UserError
        When the study has no such seed or temperature, an input is missing (the message names the stage that makes
        it), tables would hold results of other settings, or the stage itself fails.
    Interrupted
        When asked to stop; the same command continues.
    """
    config = load(configfiles)
    places.check_writable(config.results)
    study = _study(config, name)
    chosen_seeds = _chosen(study, "dense seed", seeds, study.config.dense_seeds)
    chosen_temperatures = _chosen(study, "temperature", temperatures, study.temperatures)
    if stage == "prepare":
        _prepare(config, study)
    elif stage == "tables":
        _tables(study)
        _load_grids(config, study)
    elif stage == "discard":
        for seed in chosen_seeds:
            for temperature in chosen_temperatures:
                discard(config, study.name, seed, temperature)
    elif stage in STAGES:
        one_run = stage == "dense" and study.one_dense_run and not temperatures
        done = {finding.product.outputs[0] for finding in judge(study) if finding.done}
        for seed in chosen_seeds:
            for temperature in [None] if one_run else chosen_temperatures:
                _heavy(config, study, stage, seed, temperature, done)
    else:
        raise UserError(f"unknown stage '{stage}'; allowed: prepare, {', '.join(STAGES)}, discard, tables")


def _study(config: Config, name: str | None) -> Study:
    if name is not None:
        return study_named(config, name)
    if len(config.run) != 1:
        names = ", ".join(config.run or sorted(config.studies))
        raise UserError(f"the configuration runs {len(config.run)} studies; choose one with --study: {names}")
    return planned(config)[0]


def _chosen(study: Study, kind: str, wanted: Sequence[Value], available: Sequence[Value]) -> list[Value]:
    """The `wanted` values among `available`, in its order; all of them if none is wanted."""
    for value in wanted:
        if value not in available:
            known = ", ".join(f"{each:g}" for each in available)
            raise UserError(f"{study.name} has no {kind} {value:g}; it has {known}")
    return [value for value in available if value in wanted or not wanted]


def _prepare(config: Config, study: Study) -> None:
    from three_regime.datasets.sources import load_sources
    from three_regime.preparation.download import obtain
    from three_regime.preparation.prepare import prepare

    choice, data = study.config.dataset, config.data
    table = load_sources()
    for source in (table[key] for key in choice.entry.sources):
        obtain(
            source,
            Path(data.folder) / "raw" / source.dataset,
            offline=[Path(folder) for folder in data.offline],
            mirrors=data.mirrors.get(source.name, ()),
        )
    prepare(choice, Path(data.folder))


def _heavy(
    config: Config, study: Study, stage: str, seed: int, temperature: float | None, done: Collection[Path]
) -> None:
    """Run the jobs of a stage; `done`: first files of the results that are up to date, whose weights may be gone."""
    from three_regime.jobs.run import run_job

    products = pack(study, stage, seed, temperature)
    files = [path for product in products for path in (*product.outputs, *product.inputs.values())]
    if all(product.outputs[0] in done for product in products) and not all(path.exists() for path in files):
        log.info("%s: up to date (keep: %s)", title(study, stage, seed, temperature), study.config.keep)
        return
    for product in products:
        for role, path in product.inputs.items():
            if not path.exists():
                raise UserError(f"{path} is missing: run stage {BEFORE[role]} of {study.name} first")
    # The jobs of the workflow, whose locks and training states these share.
    spans = stage == "dense" or study.job_spans_densities
    for density in [None] if spans else study.config.densities:
        run_job(config, study.name, stage, seed, temperature, density)


def _tables(study: Study) -> None:
    from three_regime import figures
    from three_regime.analysis import claims_files, regime_tables, tables

    if not any((study.folder / f"seed{seed}").is_dir() for seed in study.config.dense_seeds):
        raise UserError(f"{study.folder} holds no results yet: run stage dense of {study.name} first")
    written = tables.write(study)
    written += regime_tables.write(study.folder, study.thresholds)
    if study.config.claims:
        written += claims_files.write(study.folder, study.config.claims, study.thresholds)
    written += figures.draw(study.folder, study.figures, study.thresholds)
    log.info("%s: %d tables and figure files written", study.folder, len(written))


def _load_grids(config: Config, study: Study) -> None:
    """Tables and figures of the grids over another load that `study` belongs to, if its other studies have tables."""
    from three_regime import figures
    from three_regime.analysis.load_grids import write_tables

    for grid in load_grids(config):
        others = [each for each in grid.studies.values() if each.name != study.name]
        if len(others) == len(grid.studies):
            continue
        try:
            for other in others:
                refuse_other_tables(other)
        except UserError as error:
            log.warning("%s is not rebuilt: %s", grid.folder, error)
            continue
        figures.draw(write_tables(grid, grid.root), grid.figures, grid.thresholds)
        log.info("%s: tables and figures written", grid.folder)
