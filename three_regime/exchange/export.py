"""Export the planned studies for sharing: tables, figures, settings and provenance, optionally weights."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from three_regime import __version__
from three_regime.analysis.outdated import outdated
from three_regime.config import Config, plugins
from three_regime.errors import UserError
from three_regime.exchange import event_files, research_object
from three_regime.exchange.research_object import PROVENANCE
from three_regime.figures.outdated import outdated_explorer, outdated_figures
from three_regime.study import provenance
from three_regime.study.grid import Study, planned
from three_regime.study.load_grids import LoadGrid, load_grids
from three_regime.study.outputs import (
    CLAIM_FILES,
    FIGURE_FORMATS,
    OVERALL_FILES,
    PLUGINS,
    REGIME_TABLES,
    SETTINGS_FILE,
)
from three_regime.study.products import IMPORTED, products_of
from three_regime.study.results import read_result
from three_regime.study.stages import STAGES
from three_regime.study.table_sources import refuse_other_tables
from three_regime.system import manifest
from three_regime.system.files import disk_errors, read_table, replacing, write_json, write_text
from three_regime.system.manifest import MANIFEST

FORMAT = 1

TOO_LONG = ("curves", "provenance")
"""Tables that are not copied to their place: one row per epoch of every run (`CURVES` holds the same), and one row per
result (``provenance.json`` holds the same without repetition)."""

CURVES = Path("figures/training_curves.csv")
"""The only copy of ``curves.csv`` in the folder of an exported study, whether or not the figure is drawn."""

_ENVIRONMENT = ("versions", "commit", "device", "threads", "machine")
_ARITHMETIC = ("kernels", "together")
"""How a network was computed; not part of the recipe, because only rounding depends on it."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def export(config: Config, out: Path, *, weights: bool = False, tensorboard: bool = False, agent: str = "") -> Path:
    """Export the planned studies to a folder, or to a zip file if `out` ends in ``.zip``.

    The folder holds ``<study>/<table>.csv``, ``<study>/claims.csv`` if there are claims, ``<study>/figures/``, the
    scorecard and ``case_studies/`` if they exist, ``config.yaml`` (all settings, with defaults), ``provenance.json``
    (environments and recipes with their numbers of results, origin of imported results, total times), the Snakefile,
    ``ro-crate-metadata.json`` (`research_object`) and ``manifest.json`` (SHA-256 and size of every file).
    `seed_means.read_cells` reads it, and `redraw` rebuilds everything derived from its tables.

    Parameters
    ----------
    weights
        Whether to include the dense and retrained networks with their JSON results, as stored (pruned ones in sparse
        encoding) and with the same names. `remeasure` computes LMC and CKA from them.
    tensorboard
        Whether to write the training curves as event files too (`event_files`), below ``tensorboard/``.
    agent
        Who ran the studies, a name or a URL such as an ORCID, for ``ro-crate-metadata.json``; empty: not stated.

    Raises
    ------
    UserError
        When `out` exists, or a study or a grid over another load has no tables, or a table does not match the results
        and settings, or `weights` are asked for and a study has no retrained networks.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out or remove it")
    studies = planned(config)
    if not studies:
        raise UserError("the configuration's `run` is empty: there is nothing to export")
    for study in studies:
        if not study.table("cells").is_file():
            message = f"{study.table('cells')} is missing: run `snakemake tables` with the same --configfile first"
            raise UserError(message)
        refuse_other_tables(study)
        if weights and not any(path.with_suffix(".safetensors").is_file() for path in _results(study, "retrain")):
            raise UserError(
                f"{study.name} has no retrained networks to export (its `keep` is {study.config.keep}): export without"
                " --weights, or compute them with `keep: all`"
            )
    if (file := next(_outdated(config), None)) is not None:
        state = "does not follow from the tables with these settings" if file.is_file() else "is missing"
        raise UserError(f"{file} {state}: run `snakemake tables figures` with the same --configfile first")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as staging:
            folder = Path(staging) / "export"
            _fill(folder, config, studies, weights)
            if tensorboard:
                _event_files(folder / event_files.FOLDER, studies)
            _describe(folder, studies, agent)
            if out.suffix == ".zip":
                _zip(folder, out)
            else:
                folder.rename(out)
    return out


def _outdated(config: Config) -> Iterator[Path]:
    yield from outdated(config)
    for each in (*planned(config), *load_grids(config)):
        yield from outdated_figures(each)
    yield from outdated_explorer(config)


def _fill(folder: Path, config: Config, studies: list[Study], weights: bool) -> None:
    found = [path for each in (*studies, *load_grids(config)) for path in _files(each)]
    found += [path for study in studies if weights for path in _weights(study)]
    for source in found:
        target = folder / source.relative_to(config.results)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for study in studies:
        if study.table("curves").is_file():
            target = folder / study.name / CURVES
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(study.table("curves"), target)
    for name in OVERALL_FILES:
        if (Path(config.results) / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(Path(config.results) / name, folder / name)
    for source in plugins.files(config.plugins):
        (folder / PLUGINS).mkdir(exist_ok=True)
        shutil.copyfile(source, folder / PLUGINS / source.name)
    settings = config.model_dump(mode="json")
    settings["studies"] = {study.name: settings["studies"][study.name] for study in studies}
    settings["load_grids"] = {grid.name: settings["load_grids"][grid.name] for grid in load_grids(config)}
    write_text(folder / SETTINGS_FILE, yaml.safe_dump(settings, sort_keys=False))
    write_json(folder / PROVENANCE, {study.name: provenance_of(study) for study in studies})


def _event_files(folder: Path, studies: list[Study]) -> None:
    for study in studies:
        curves, results = (read_table(study.table(name)) for name in ("curves", "provenance"))
        event_files.write(folder / study.name, curves, results, study.knob)


def _describe(folder: Path, studies: list[Study], agent: str) -> None:
    """Add what lists the other files."""
    research_object.copy_workflow(folder)
    research_object.write(folder, agent=agent, commit=provenance.commit())
    write_manifest(folder, [study.name for study in studies])


def write_manifest(folder: Path, studies: Sequence[str], **about: Any) -> None:
    """Write ``manifest.json``: format, version, exporting commit, `about`, studies, and entries of all files."""
    made_by = {"format": FORMAT, "three_regime": __version__, "commit": provenance.commit()}
    files = manifest.entries(folder)
    write_json(folder / MANIFEST, {**made_by, **about, "studies": list(studies), "files": files})


def _files(tabled: Study | LoadGrid) -> Iterator[Path]:
    """Tables and figures of a study, or of a grid over another load."""
    names = [f"{name}.csv" for name in (*tabled.cell_tables, *REGIME_TABLES) if name not in TOO_LONG]
    stated = CLAIM_FILES if isinstance(tabled, Study) and tabled.config.claims else ()
    yield from (path for name in (*names, *stated) if (path := tabled.folder / name).is_file())
    for name in tabled.figures:
        yield from (path for kind in FIGURE_FORMATS if (path := tabled.folder / "figures" / f"{name}.{kind}").is_file())


def _weights(study: Study) -> Iterator[Path]:
    for stage in ("dense", "retrain"):
        for result in _results(study, stage):
            yield from (path for path in (result, result.with_suffix(".safetensors")) if path.is_file())


def provenance_of(study: Study) -> dict[str, Any]:
    """Provenance of a study's results, with each environment and recipe listed once.

    Returns
    -------
    ``environments`` (versions, commit, device, threads, machine, and number of ``results``), ``stages`` (stage →
    ``recipes`` with numbers of results, ``arithmetic`` likewise (``kernels``, number of networks ``together``; absent
    in older results), total ``wall_s``, ``first`` and ``last`` time) and ``imported`` (folder below the study →
    digest of the imported checkpoint or log; for LMC and CKA, file → digest of the imported record). Host names are
    omitted.
    """
    environments: dict[str, dict[str, Any]] = {}
    stages: dict[str, dict[str, Any]] = {}
    imported: dict[str, str] = {}
    for stage in STAGES:
        recipes: dict[str, dict[str, Any]] = {}
        arithmetic: dict[str, dict[str, Any]] = {}
        times: list[str] = []
        wall_s: dict[Path, float] = {}
        for path in _results(study, stage):
            record = read_result(path).provenance
            _count(environments, {key: record[key] for key in _ENVIRONMENT if key in record})
            # Streams differ for every seed and replica, and follow from the grid.
            _count(recipes, {key: value for key, value in record["recipe"].items() if key != "streams"})
            _count(arithmetic, {key: record[key] for key in _ARITHMETIC if key in record})
            times.append(record["finished"])
            # Each checkpoint of a dense run counts the time since the start of the run.
            run = path.parents[1] if stage == "dense" and study.one_dense_run else path
            wall_s[run] = max(wall_s.get(run, 0.0), record["wall_s"])
            if record["origin"] == IMPORTED:
                # The measures of a pair have files of their own in one folder.
                source = path if "pair" in STAGES[stage].place else path.parent
                imported[source.relative_to(study.folder).as_posix()] = record["source_sha256"]
        if times:
            span = {"wall_s": round(sum(wall_s.values()), 3), "first": min(times), "last": max(times)}
            stages[stage] = {**span, "recipes": list(recipes.values()), "arithmetic": list(arithmetic.values())}
    return {"environments": list(environments.values()), "stages": stages, "imported": imported}


def _results(study: Study, stage: str) -> Iterator[Path]:
    for product in products_of(study, [stage]):
        if product.outputs[0].is_file():
            yield product.outputs[0]


def _count(found: dict[str, dict[str, Any]], value: dict[str, Any]) -> None:
    key = json.dumps(value, sort_keys=True)
    found.setdefault(key, {**value, "results": 0})["results"] += 1


def _zip(folder: Path, out: Path) -> None:
    """Pack a folder into a zip file reproducibly: equal content gives equal bytes."""
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(f"{out.stem}/{path.relative_to(folder).as_posix()}", _ZIP_TIME)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
