"""Discard the weights that a study does not keep (`keep`), once it has been measured.

========== ======================================================================================================
``all``       every checkpoint
``endpoints`` dense and retrained networks, the ends of the measured lines; pruned networks and masks are removed:
              pruning makes them again from the dense ones in seconds, bit for bit (kept where training or gradients
              decide what is pruned)
``none``      only results (JSON) and tables: every checkpoint and the training state of the dense run are removed
========== ======================================================================================================

Weights of a dense seed and temperature are removed only when every LMC and CKA there is done. Their JSON file stays,
with fingerprint and tensor digest, so a finished study stays finished. If discarded weights are needed again (for a new
density, or other points on the line), Snakemake plans them like any missing file; with ``none`` that means training
again. Imported checkpoints cannot be computed again and are always kept.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.jobs import kept_copies
from three_regime.jobs.job import locked, state_files
from three_regime.study.fingerprints import recorded_digest
from three_regime.study.grid import Study, study_named
from three_regime.study.products import IMPORTED, Product, discarded_stages, pack
from three_regime.study.results import read_result
from three_regime.study.stages import STAGES
from three_regime.system.files import read_json, write_json

log = logging.getLogger(__name__)

RECORD = "discarded.json"
"""File written beside the dense checkpoint when the weights of its temperature have been discarded."""


@dataclass(frozen=True)
class Discarded:
    """Files removed by one call, and their size in bytes."""

    files: list[Path]
    size: int


def record_file(study: Study, seed: int, temperature: float) -> Path:
    """Path of the record that `discard` writes."""
    return study.at(seed, temperature) / RECORD


def discard(config: Config, name: str, seed: int, temperature: float) -> Discarded:
    """Remove the weights of one dense seed and temperature that a study does not keep; write ``discarded.json``.

    Raises
    ------
    UserError
        When the study keeps all weights, or something there is not done yet; then nothing is removed.
    """
    study = study_named(config, name)
    if study.config.keep == "all":
        raise UserError(f"{name} keeps all weights (keep: all): there is nothing to discard")
    with contextlib.ExitStack() as held:
        measures = ("measures",) if study.config.measure.also else ()
        for stage in ("prune", "retrain", "lmc", "cka", *measures):  # so no job reads or writes there
            densities = [None] if study.job_spans_densities else study.config.densities
            for density in densities:
                held.enter_context(locked(study, stage, seed, temperature, density))
        products = {stage: pack(study, stage, seed, temperature) for stage in STAGES}
        _check_measured(study, products)
        goes = [product for stage in discarded_stages(study) for product in products[stage] if _may_go(product)]
        files = [path for product in goes for path in product.outputs if path.suffix == ".safetensors"]
        for product in itertools.chain.from_iterable(products.values()):
            kept_copies.drop(study, product.outputs)  # disk space is freed with the last hard link
        removed = _remove(files)
        gone = sorted(str(path.relative_to(study.folder)) for path in files)
        write_json(record_file(study, seed, temperature), {"keep": study.config.keep, "discarded": gone})
        # Asked after the own record is there, so of two jobs that end together at least one finds all of them.
        if study.config.keep == "none" and all(is_discarded(study, seed, value) for value in study.temperatures):
            states = _remove(state_files(study, products["dense"][0]))
            removed = Discarded(removed.files + states.files, removed.size + states.size)
    count = len(removed.files)
    log.info("%s: %d files discarded, %.1f MB", study.at(seed, temperature), count, removed.size / 1e6)
    return removed


def _remove(files: Sequence[Path]) -> Discarded:
    there = [path for path in files if path.exists()]
    size = sum(path.stat().st_size for path in there)
    for path in there:
        path.unlink(missing_ok=True)
    return Discarded(there, size)


def _check_measured(study: Study, products: dict[str, list[Product]]) -> None:
    for stage, members in products.items():
        for product in members:
            weights_stay = stage not in discarded_stages(study)
            if not (product.done if weights_stay else product.done_without_weights):
                raise UserError(f"{product.outputs[0]} is not up to date, so nothing was discarded: compute it first")


def _may_go(product: Product) -> bool:
    """Whether the product can be judged and computed again without its weights: computed here, digest recorded."""
    computed = read_result(product.outputs[0]).origin != IMPORTED
    return computed and recorded_digest(product.outputs[-1]) is not None


def is_discarded(study: Study, seed: int, temperature: float) -> bool:
    """Whether the record is there, and says that what the study does not keep is gone."""
    try:
        return read_json(record_file(study, seed, temperature))["keep"] == study.config.keep
    except (UserError, KeyError, TypeError):
        return False


def discard_records(study: Study) -> list[str]:
    """Records written by the jobs that discard weights; empty if the study keeps all."""
    if study.config.keep == "all":
        return []
    return [str(record_file(study, *place)) for place in study.seeds_and_temperatures]
