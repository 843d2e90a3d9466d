"""Disk space: which weights a study keeps when it has been measured (`keep`), and how the others are discarded.

========== ======================================================================================================
``all``       every checkpoint
``endpoints`` dense and retrained networks, the ends of the measured lines; pruned networks and masks go: pruning
              makes them again from the dense ones in seconds, and bit for bit
``none``      results (JSON) and tables alone: every checkpoint goes, and the training state of the dense run
========== ======================================================================================================

Weights of a dense seed and temperature go once every LMC and CKA there is done, never before. Their JSON file stays,
with fingerprint and tensor digest, so that a finished study stays finished. What is discarded and needed again (a new
density, other points of the line) is planned again by Snakemake like any missing file; with ``none`` that means the
training. An imported checkpoint cannot be made again and always stays.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.jobs import kept_copies
from three_regime.jobs.job import locked, state_file
from three_regime.study.fingerprints import recorded_digest
from three_regime.study.grid import Study, study_named
from three_regime.study.products import IMPORTED, Product, pack
from three_regime.study.results import read_result
from three_regime.study.stages import DISCARDED, STAGES
from three_regime.system.files import write_json

log = logging.getLogger(__name__)

RECORD = "discarded.json"
"""Written beside the dense checkpoint when the weights of its temperature have been discarded."""


@dataclass(frozen=True)
class Discarded:
    """What one call removed: files, and their bytes."""

    files: list[Path]
    size: int


def record_file(study: Study, seed: int, temperature: float) -> Path:
    """Where `discard` says what it did."""
    return study.at(seed, temperature) / RECORD


def discard(config: Config, name: str, seed: int, temperature: float) -> Discarded:
    """Remove the weights that a study does not keep, of one dense seed and temperature, and write ``discarded.json``.

    Raises
    ------
    UserError
        When something there is not done yet: nothing has been removed then.
    """
    study = study_named(config, name)
    with contextlib.ExitStack() as held:
        working = ("prune", "retrain", "lmc", "cka", *(("measures",) if study.config.measure.also else ()))
        for stage in working:  # no job may be reading or writing there
            densities = [None] if study.job_spans_densities else study.config.densities
            for density in densities:
                held.enter_context(locked(study, stage, seed, temperature, density))
        products = {stage: pack(study, stage, seed, temperature) for stage in STAGES}
        _check_measured(study, products)
        goes = [product for stage in DISCARDED[study.config.keep] for product in products[stage] if _may_go(product)]
        files = [path for product in goes for path in product.outputs if path.suffix == ".safetensors"]
        if study.config.keep == "none" and _last_of_seed(study, seed, temperature):
            files.append(state_file(study, products["dense"][0]))
        for product in itertools.chain.from_iterable(products.values()):
            kept_copies.drop(study, product.outputs)  # the disk space of a file is free when its last name is gone
        there = [path for path in files if path.exists()]
        size = sum(path.stat().st_size for path in there)
        for path in there:
            path.unlink()
        gone = sorted(str(path.relative_to(study.folder)) for path in files if path.is_relative_to(study.folder))
        write_json(record_file(study, seed, temperature), {"keep": study.config.keep, "discarded": gone})
    log.info("%s: %d files discarded, %.1f MB", study.at(seed, temperature), len(there), size / 1e6)
    return Discarded(there, size)


def _check_measured(study: Study, products: dict[str, list[Product]]) -> None:
    for stage, members in products.items():
        for product in members:
            weights_stay = stage not in DISCARDED[study.config.keep]
            if not (product.done if weights_stay else product.done_without_weights):
                raise UserError(f"{product.outputs[0]} is not up to date, so nothing was discarded: finish it first")


def _may_go(product: Product) -> bool:
    """Whether the weights can be judged and made again without themselves: computed here, digest on record."""
    computed = read_result(product.outputs[0]).origin != IMPORTED
    return computed and recorded_digest(product.outputs[-1]) is not None


def _last_of_seed(study: Study, seed: int, temperature: float) -> bool:
    """Whether every other temperature of the seed has been discarded before."""
    others = [value for value in study.temperatures if value != temperature]
    return all(record_file(study, seed, value).exists() for value in others)


def discard_records(study: Study) -> list[str]:
    """What the jobs that discard weights write; none where a study keeps all."""
    if study.config.keep == "all":
        return []
    return [str(record_file(study, *place)) for place in study.seeds_and_temperatures]
