"""An export for sharing: tables, figures, settings and provenance of the planned studies; weights where asked."""

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
from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.study import provenance
from three_regime.study.grid import Study, planned
from three_regime.study.outputs import (
    CELL_TABLES,
    CLAIM_FILES,
    FIGURE_FORMATS,
    OVERALL_FILES,
    REGIME_TABLES,
    SETTINGS_FILE,
)
from three_regime.study.products import IMPORTED, products_of
from three_regime.study.results import read_result
from three_regime.study.stages import STAGES
from three_regime.study.table_sources import refuse_other_tables
from three_regime.system import manifest
from three_regime.system.files import replacing, write_json, write_text
from three_regime.system.manifest import MANIFEST

PROVENANCE = "provenance.json"
FORMAT = 1

TOO_LONG = ("curves", "provenance")
"""Tables that are left out: a row an epoch of every run (what is drawn of it is in the figure's CSV), and a row a
result (``provenance.json`` holds it without the repetitions)."""

_ENVIRONMENT = ("versions", "commit", "device", "threads", "machine")
_ARITHMETIC = ("kernels", "together")
"""How a result's network was computed, which its recipe leaves open because it only rounds differently."""

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def export(config: Config, out: Path, *, weights: bool = False) -> Path:
    """Write the export of the planned studies to a folder, or to one file when `out` ends in ``.zip``.

    The folder holds ``<study>/<table>.csv``, ``<study>/claims.csv`` where claims were stated, and ``<study>/figures/``,
    the scorecard and ``case_studies/`` where they were made, ``config.yaml`` (every setting, defaults filled in),
    ``provenance.json`` (a list of environments and of recipes with how many results each made, origin of imported
    results, total times) and ``manifest.json`` (SHA-256 and size of every file). `seed_means.read_cells` reads it,
    and `redraw` makes everything that follows from its tables again.

    Parameters
    ----------
    weights
        Also pack the dense and the retrained networks, each with its result and as it is stored (pruned ones sparse),
        under the same names as in the results. `remeasure` computes LMC and CKA from them.

    Raises
    ------
    UserError
        When `out` exists already, or a study has no tables yet, or some that do not follow from its results and these
        settings.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out or remove it")
    studies = planned(config)
    if not studies:
        raise UserError("the configuration runs no study: there is nothing to export")
    for study in studies:
        if not study.table("cells").is_file():
            raise UserError(f"{study.table('cells')} is missing: run `snakemake tables` first")
        refuse_other_tables(study)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as staging:
        folder = Path(staging) / "export"
        _fill(folder, config, studies, weights)
        if out.suffix == ".zip":
            _zip(folder, out)
        else:
            folder.rename(out)
    return out


def _fill(folder: Path, config: Config, studies: list[Study], weights: bool) -> None:
    for study in studies:
        for source in (*_files(study), *(_weights(study) if weights else ())):
            target = folder / study.name / source.relative_to(study.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for name in OVERALL_FILES:
        if (Path(config.results) / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(Path(config.results) / name, folder / name)
    settings = config.model_dump(mode="json")
    settings["studies"] = {study.name: settings["studies"][study.name] for study in studies}
    write_text(folder / SETTINGS_FILE, yaml.safe_dump(settings, sort_keys=False))
    write_json(folder / PROVENANCE, {study.name: provenance_of(study) for study in studies})
    write_manifest(folder, [study.name for study in studies])


def write_manifest(folder: Path, studies: Sequence[str], **about: Any) -> None:
    """Write ``manifest.json``: format, version and commit, `about`, studies, SHA-256 and size of every file."""
    made_by = {"format": FORMAT, "three_regime": __version__, "commit": provenance.commit()}
    files = manifest.entries(folder)
    write_json(folder / MANIFEST, {**made_by, **about, "studies": list(studies), "files": files})


def _files(study: Study) -> Iterator[Path]:
    for name in (*CELL_TABLES, *REGIME_TABLES):
        path = study.table(name)
        if name not in TOO_LONG and path.is_file():
            yield path
    yield from (path for name in CLAIM_FILES if (path := study.folder / name).is_file())
    for path in sorted((study.folder / "figures").glob("*")):
        if path.suffix[1:] in FIGURE_FORMATS:
            yield path


def _weights(study: Study) -> Iterator[Path]:
    for stage in ("dense", "retrain"):
        for result in _results(study, stage):
            yield from (path for path in (result, result.with_suffix(".safetensors")) if path.is_file())


def provenance_of(study: Study) -> dict[str, Any]:
    """Where a study's results come from, each environment and recipe once.

    Returns
    -------
    ``environments`` (versions, commit, device, threads, machine, and the number of ``results`` made there),
    ``stages`` (stage → ``recipes`` with their number of results, ``arithmetic`` likewise (which ``kernels``, how many
    networks ``together``; nothing in results older than these), ``wall_s`` of all runs, ``first`` and ``last``
    time) and ``imported`` (folder below the study → digest of the checkpoint that was brought in). Host names are
    left out.
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
            # Streams differ with every seed and replica; the grid says which there are.
            _count(recipes, {key: value for key, value in record["recipe"].items() if key != "streams"})
            _count(arithmetic, {key: record[key] for key in _ARITHMETIC if key in record})
            times.append(record["finished"])
            # Each checkpoint of one dense run counts the time since the run began.
            run = path.parents[1] if stage == "dense" and study.one_dense_run else path
            wall_s[run] = max(wall_s.get(run, 0.0), record["wall_s"])
            if record["origin"] == IMPORTED:
                imported[path.parent.relative_to(study.folder).as_posix()] = record["source_sha256"]
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
    """Pack a folder; the same content always gives the same bytes."""
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(f"{out.stem}/{path.relative_to(folder).as_posix()}", _ZIP_TIME)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
