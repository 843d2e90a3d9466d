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

from three_regime import links
from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.jobs import locked, state_file
from three_regime.results import read_result
from three_regime.stages import (
    DISCARDED,
    IMPORTED,
    STAGES,
    Product,
    pack,
    recorded_digest,
)
from three_regime.storage import write_json
from three_regime.study import Study, study

log = logging.getLogger(__name__)

RECORD = "discarded.json"
"""Written beside the dense checkpoint when the weights of its temperature have been discarded."""


@dataclass(frozen=True)
class Discarded:
    """What one call removed: files, and their bytes."""

    files: list[Path]
    size: int


def record_file(owner: Study, seed: int, temperature: float) -> Path:
    """Where `discard` says what it did."""
    return owner.at(seed, temperature) / RECORD


def discard(config: Config, name: str, seed: int, temperature: float) -> Discarded:
    """Remove the weights that a study does not keep, of one dense seed and temperature, and write ``discarded.json``.

    Raises
    ------
    UserError
        When something there is not done yet: nothing has been removed then.
    """
    owner = study(config, name)
    with contextlib.ExitStack() as held:
        for stage in ("prune", "retrain", "lmc", "cka"):  # no job may be reading or writing there
            densities = [None] if "density" in owner.config.pack else owner.config.densities
            for density in densities:
                held.enter_context(locked(owner, stage, seed, temperature, density))
        products = {stage: pack(owner, stage, seed, temperature) for stage in STAGES}
        _check_measured(owner, products)
        goes = [product for stage in DISCARDED[owner.config.keep] for product in products[stage] if _may_go(product)]
        files = [path for product in goes for path in product.outputs if path.suffix == ".safetensors"]
        if owner.config.keep == "none" and _last_of_seed(owner, seed, temperature):
            files.append(state_file(owner, products["dense"][0]))
        for product in itertools.chain.from_iterable(products.values()):
            links.drop(owner, product.outputs)  # the disk space of a file is free when its last name is gone
        there = [path for path in files if path.exists()]
        size = sum(path.stat().st_size for path in there)
        for path in there:
            path.unlink()
        gone = sorted(str(path.relative_to(owner.folder)) for path in files if path.is_relative_to(owner.folder))
        write_json(record_file(owner, seed, temperature), {"keep": owner.config.keep, "discarded": gone})
    log.info("%s: %d files discarded, %.1f MB", owner.at(seed, temperature), len(there), size / 1e6)
    return Discarded(there, size)


def _check_measured(owner: Study, products: dict[str, list[Product]]) -> None:
    for stage, members in products.items():
        for product in members:
            weights_stay = stage not in DISCARDED[owner.config.keep]
            if not (product.done if weights_stay else product.done_without_weights):
                raise UserError(f"{product.outputs[0]} is not up to date, so nothing was discarded: finish it first")


def _may_go(product: Product) -> bool:
    """Whether the weights can be judged and made again without themselves: computed here, digest on record."""
    computed = read_result(product.outputs[0]).origin != IMPORTED
    return computed and recorded_digest(product.outputs[-1]) is not None


def _last_of_seed(owner: Study, seed: int, temperature: float) -> bool:
    """Whether every other temperature of the seed has been discarded before."""
    others = [value for value in owner.temperatures if value != temperature]
    return all(record_file(owner, seed, value).exists() for value in others)
