"""Import checkpoints trained elsewhere as output of a stage, so nothing upstream is computed for them.

The fingerprint of an imported product covers its recipe and place instead of its inputs
(`products.Product.imported_fingerprint`): it counts as done even if earlier stages have not been run, and becomes stale
like any other when the settings of its own stage change. Its provenance has ``origin: imported`` and the SHA-256 of the
source file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.exchange.checkpoint_files import ForeignCheckpoint, read_foreign
from three_regime.jobs import kept_copies
from three_regime.jobs.job import Job, locked
from three_regime.preparation.prepare import is_prepared
from three_regime.pruning.allocation import kept_counts, removed_count
from three_regime.pruning.masks import Masks, apply_masks, join_masks, sparsity, split_masks
from three_regime.study import provenance
from three_regime.study.grid import Study, study_named
from three_regime.study.products import IMPORTED, Product, job_place, pack
from three_regime.system.files import Arrays
from three_regime.system.interruption import Stop

log = logging.getLogger(__name__)

Value = TypeVar("Value", int, float)

_LAYERS_SHOWN = 3


def import_checkpoint(
    config: Config,
    checkpoint: Path,
    name: str,
    *,
    seed: int,
    temperature: float,
    density: float | None = None,
    replica: int | None = None,
) -> tuple[Path, ...]:
    """Import a checkpoint as a product of a study; return the files written.

    Without `density` it is a dense checkpoint, with `density` a pruned one, and with `replica` as well a retrained one.
    Dense and retrained networks are evaluated on the prepared data: their test error is that of the checkpoint instead
    of a mean over the last epochs, and their history is empty.

    Raises
    ------
    UserError
        When the study has no such place, a result exists there, the data have not been prepared, or the file is of
        another architecture or has numbers of weights that do not match the density.
    """
    study = study_named(config, name)
    if not study.setting.reads_foreign_checkpoints:
        raise UserError(
            f"{name} {study.setting.does}, and only image networks can be imported; copy this project's own results and"
            " run `adopt`"
        )
    product = find_product(study, seed, temperature, density, replica)
    _check_free(product, checkpoint)
    if product.stage != "prune" and not is_prepared(study.config.dataset, study.data):
        raise UserError(
            f"{study.prepared} is missing or out of date: an imported checkpoint is evaluated on it; run `snakemake"
            " data` with the same --configfile first"
        )
    found = read_foreign(checkpoint)
    job = Job(config, study, seed, product.coordinates["temperature"], [product], Stop())
    with locked(study, product.stage, *job_place(study, product)):
        _check_free(product, checkpoint)  # another process may have written a result meanwhile
        _write(job, product, found, checkpoint)
        kept_copies.drop(study, product.outputs)
    log.info("%s: imported as %s, %s", checkpoint, product.stage, product.label)
    return product.outputs


def _check_free(product: Product, checkpoint: Path) -> None:
    """Raise if a file of the product exists."""
    there = [path for path in product.outputs if path.exists()]
    if there:
        raise UserError(f"{there[0]} exists already; delete it first to replace it by {checkpoint}")


def find_product(
    study: Study, seed: int, temperature: float, density: float | None = None, replica: int | None = None
) -> Product:
    """The product at a place in a study, of stage dense, prune or retrain, depending on the arguments given.

    Raises
    ------
    UserError
        When the study has no such seed, temperature, density or replica.
    """
    seed = _one_of(study, "dense seed", seed, study.config.dense_seeds)
    temperature = _one_of(study, "temperature", temperature, study.temperatures)
    if density is None:
        if replica is not None:
            raise UserError("a replica belongs to a density: give --density too")
        return pack(study, "dense", seed, temperature)[0]
    density = _one_of(study, "density", density, study.config.densities)
    if replica is None:
        return pack(study, "prune", seed, temperature, density)[0]
    replica = _one_of(study, "replica", replica, study.config.replicas)
    products = pack(study, "retrain", seed, temperature, density)
    return next(product for product in products if product.coordinates["replica"] == replica)


def _one_of(study: Study, kind: str, wanted: Value, available: Sequence[Value]) -> Value:
    for value in available:
        if np.isclose(value, wanted, rtol=0, atol=1e-9):
            return value
    raise UserError(f"{study.name} has no {kind} {wanted:g}; it has {', '.join(f'{each:g}' for each in available)}")


def _write(job: Job, product: Product, found: ForeignCheckpoint, source: Path) -> None:
    from three_regime.models import families
    from three_regime.models.matching import match

    config = job.study.config
    entry = config.dataset.entry
    network = families.build(
        config.model, classes=entry.classes, channels=entry.channels, image_size=entry.image_size
    )  # fmt: skip
    weights, own_masks = split_masks(found.arrays)
    weights = match(weights, network, source)
    _check_finite(weights, source)
    masks = masks_of(weights, {**own_masks, **(found.masks or {})}, families.prunable(network), source)
    record = {
        **provenance.record(
            fingerprint=product.imported_fingerprint,
            recipe=product.recipe,
            inputs={},
            device=job.device,
            threads=job.config.threads,
            wall_s=0.0,
        ),
        "origin": IMPORTED,
        "source": source.name,
        "source_sha256": found.source_sha256,
    }
    if product.stage == "dense":
        check_dense(masks, source)
        results, about = _evaluated(job, product, weights)
        job.commit(product, results, weights, wall_s=0.0, metadata=about, record=record)
        return
    check_density(masks, product.coordinates["density"], config.prune.allocation, source)
    weights = apply_masks(weights, masks)
    if product.stage == "prune":
        results = {"sparsity": sparsity(masks, sum(value.numel() for value in network.parameters()))}
    else:
        results, _ = _evaluated(job, product, weights)
        results["test_error"] = results["test"]["error"]
    job.commit(product, results, join_masks(weights, masks), wall_s=0.0, record=record)


def masks_of(weights: Arrays, given: Masks, prunable: Sequence[str], source: Path) -> Masks:
    """Masks of the prunable weights: those in the file, otherwise the nonzero positions.

    Raises
    ------
    UserError
        When a mask prunes weights that this project never prunes.
    """
    for name in given.keys() - set(prunable):
        if not given[name].all():
            raise UserError(f"{source}: {name} is pruned, but only convolutions are ({len(prunable)} of them)")
    return {name: given[name].astype(bool) if name in given else weights[name] != 0 for name in prunable}


def check_dense(masks: Masks, source: Path) -> None:
    """Check that at most a tenth of the prunable weights is zero (a few may be, by chance)."""
    total = sum(mask.size for mask in masks.values())
    removed = total - sum(int(mask.sum()) for mask in masks.values())
    if removed > total / 10:
        raise UserError(
            f"{source} is not a dense checkpoint, {removed:,} of {total:,} weights are zero: give --density"
        )


def check_density(masks: Masks, density: float, allocation: str, source: Path) -> None:
    """Check that the number of pruned weights is exactly that of pruning to `density`, in each layer or in total.

    Raises
    ------
    UserError
        When it is not; the message gives the actual and expected numbers.
    """
    sizes: Mapping[str, int] = {name: mask.size for name, mask in masks.items()}
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    expected = kept_counts({name: mask.shape for name, mask in masks.items()}, density, allocation)
    if expected is None:  # counts of layers depend on the scores
        sizes, kept = {"all convolutions": sum(sizes.values())}, {"all convolutions": sum(kept.values())}
        expected = {name: count - removed_count(count, density) for name, count in sizes.items()}
    wrong = [
        f"{name} keeps {kept[name]:,} of {count:,} instead of {expected[name]:,}"
        for name, count in sizes.items()
        if kept[name] != expected[name]
    ]
    if wrong:
        more = f" and {len(wrong) - _LAYERS_SHOWN} more layers" if len(wrong) > _LAYERS_SHOWN else ""
        raise UserError(f"{source} is not of density {density:g}: {'; '.join(wrong[:_LAYERS_SHOWN])}{more}")


def _check_finite(weights: Arrays, source: Path) -> None:
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise UserError(f"{source}: {name} holds values that are not finite")


def _evaluated(job: Job, product: Product, weights: Arrays) -> tuple[dict[str, Any], dict[str, str]]:
    """Results of a network on the prepared data, and metadata for pruning."""
    from three_regime.jobs.context import task_of
    from three_regime.jobs.dense import about_model
    from three_regime.system.device import convolution_precision

    task = task_of(job)
    with convolution_precision(tf32=False):
        loaded = task.load(weights, "the imported checkpoint")
        train, test = task.evaluate(loaded, "train"), task.evaluate(loaded, "test")
    config, temperature = job.study.config, product.coordinates["temperature"]
    training = config.retrain if product.stage == "retrain" else config.dense_at(temperature)
    one_run = product.stage == "dense" and job.study.one_dense_run
    epoch = int(temperature) if one_run else training.epochs_on(len(task.labels["train"]))
    return {"epoch": epoch, "train": asdict(train), "test": asdict(test), "history": []}, about_model(task)
