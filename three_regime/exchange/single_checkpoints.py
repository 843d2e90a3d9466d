"""Prune single checkpoints, and measure their LMC and CKA, without a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from three_regime import kernels
from three_regime.config import Measurement
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.exchange.checkpoint_files import own_weights, read_foreign
from three_regime.exchange.checkpoint_record import (
    check_corpus,
    check_exists,
    check_labels,
    read_record,
    warn_of_other_images,
)
from three_regime.landscape import mode_connectivity
from three_regime.landscape.linear_cka import condensed_kinds, similarity
from three_regime.models import families
from three_regime.models.matching import match
from three_regime.names import registered
from three_regime.pruning.allocation import masks_of
from three_regime.pruning.criteria import CRITERIA, Known, checked
from three_regime.pruning.masks import apply_masks, join_masks, sparsity, split_masks
from three_regime.random_streams import Streams
from three_regime.settings import Setting, setting_of
from three_regime.system.device import choose, convolution_precision
from three_regime.system.files import Arrays, tensor_digest, write_arrays, write_json
from three_regime.system.gpu_memory import refused
from three_regime.tasks.interface import SparseNetwork, Task
from three_regime.tasks.strategies import one_at_a_time, sparse_network

_ELSEWHERE = "or compute on the CPU with CUDA_VISIBLE_DEVICES= before the command"


def prune_file(
    checkpoint: Path,
    model: str,
    density: float,
    allocation: str,
    out: Path,
    criterion: str = "magnitude",
    seed: int = 1,
) -> dict[str, Any]:
    """Prune a checkpoint of `model`, write weights and masks to `out`, and return the counts (`masks.sparsity`).

    Parameters
    ----------
    criterion
        Key in ``CRITERIA`` of a criterion that needs no gradients.
    seed
        Seed of a criterion that draws; a study uses its dense seed.

    Raises
    ------
    UserError
        When the file is of another architecture, the density is outside (0, 1], or the criterion is unknown, needs
        gradients or does not support the allocation.
    """
    arrays = _weights(checkpoint)
    setting = setting_of(families.parse(model).kind)
    if not setting.reads_foreign_checkpoints:
        raise UserError(f"model {model} {setting.does}: its networks are pruned by a study (`run-stage prune`)")
    network, arrays = _fitting(model, arrays, checkpoint)
    try:
        chosen = CRITERIA[registered(criterion, CRITERIA, "criterion")]
        chosen.check(allocation)
    except ValueError as error:
        raise UserError(str(error)) from error
    if chosen.needs_gradients:
        raise UserError(f"criterion {criterion} needs training data: prune by it in a study (`prune.criterion`)")
    known = Known(checked(arrays, families.prunable(network)), Streams(("prune", seed)))
    masks = masks_of(chosen.score(known), density, allocation)
    counts = sparsity(masks, sum(value.numel() for value in network.parameters()))
    write_arrays(out, join_masks(apply_masks(arrays, masks), masks), {"source_tensors": tensor_digest(arrays)})
    return counts


def lmc_of_files(
    first: Path,
    second: Path,
    model: str,
    dataset: str,
    data: Path,
    out: Path,
    *,
    train_images: int | None,
    test_images: int | None,
    batch_size: int,
    points: int,
    at_most: bool = False,
) -> dict[str, Any]:
    """LMC of two checkpoints, written to `out` (see `mode_connectivity.line`).

    Parameters
    ----------
    data
        Folder of the raw images, or of the prepared corpus. A corpus other than the one in the checkpoints' records is
        an error, other images are logged.
    train_images
        Number of training images (the first ones) or sentence pairs (spread over the corpus), for re-estimation and
        training error; None: all.
    at_most
        Use all where there are fewer than these numbers; otherwise that is an error.

    Raises
    ------
    UserError
        Also when a checkpoint's record names label noise: the line would be measured with other labels.
    """
    check_exists(first, second)
    check_labels(first, second)
    setting, task = _task((first, second), model, dataset, data, train_images, test_images, at_most)
    ends = [_loaded(setting, task, path) for path in (first, second)]
    with convolution_precision(tf32=False), refused("LMC", _ELSEWHERE):
        strategy = one_at_a_time(task, _engine(task, ends))
        networks = [ends[0], *mode_connectivity.inside(task, *ends, points), ends[1]]
        result = mode_connectivity.line(list(mode_connectivity.measure(strategy, networks, batch_size, None)))
    try:
        write_json(out, result)
    except ValueError as error:
        raise UserError(f"a loss on the line from {first} to {second} is not a finite number") from error
    return result


def cka_of_files(
    first: Path,
    second: Path,
    model: str,
    dataset: str,
    data: Path,
    out: Path,
    *,
    images: int | None = None,
    train_images: int | None = None,
    measure: Measurement | None = None,
) -> dict[str, Any]:
    """CKA of two checkpoints on the first `images` training images (or target tokens), written to `out`.

    Parameters
    ----------
    images
        None: as `measure` says, or all if there are fewer.
    train_images
        Training images or sentence pairs (spread over the corpus) to take them from, if there are so many; None: all.
    measure
        Settings of a study; default: 6,464 images or 2,048 tokens.
    """
    setting, task = _task((first, second), model, dataset, data, train_images, None, True)
    images = images or min(setting.cka_recipe(measure or Measurement())[setting.unit], task.comparable)
    networks = [_loaded(setting, task, path) for path in (first, second)]
    with convolution_precision(tf32=False), refused("CKA", _ELSEWHERE):
        network = _engine(task, networks) or task
        outputs = [condensed_kinds(network.outputs(weights, images)) for weights in networks]
    result = similarity(*outputs, setting.unit)
    if np.isnan(list(result.values())).any():
        raise UserError(f"CKA of {first} and {second} is undefined: the outputs of one are constant")
    write_json(out, result)
    return result


def _task(
    checkpoints: tuple[Path, ...],
    model: str,
    dataset: str,
    data: Path,
    train_images: int | None,
    test_images: int | None,
    at_most: bool,
) -> tuple[Setting, Task]:
    """The setting and task to measure checkpoints, after checking the data against the checkpoints' records."""
    check_exists(*checkpoints)
    records = {path: read_record(path) for path in checkpoints}
    try:
        setting = setting_of(DATASETS[registered(dataset, DATASETS, "data set")].kind)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not setting.takes(model):
        raise UserError(f"model {model} takes {families.parse(model).kind}, but {dataset} holds {setting.kind}")
    kernels.allow("auto")
    opened = setting.opened(dataset, data)
    if any(record.data for record in records.values()):
        digest = opened.digest()
        for path, record in records.items():
            if setting.refuses_other_data:
                check_corpus(path, record, data)
            else:
                warn_of_other_images(path, record, dataset, data, digest)
    if at_most:
        train_images, test_images = (
            count and min(count, opened.counts[split])
            for split, count in (("train", train_images), ("test", test_images))
        )
    for split, count in (("train", train_images), ("test", test_images)):
        _check_count(split, count, opened.counts[split], data)
    return setting, opened.task(model, choose("auto"), train_images, test_images)


def _engine(task: Task, networks: Sequence[Mapping[str, Tensor]]) -> SparseNetwork | None:
    """The sparse engine, if it is faster; weights that are zero in all networks are pruned."""
    masks = {
        name: np.logical_or.reduce([weights[name].cpu().numpy() != 0 for weights in networks]) for name in task.prunable
    }
    return sparse_network(task, masks, networks)


def _check_count(split: str, asked: int | None, there: int, data: Path) -> None:
    """Raise if a split has fewer images or sentence pairs than requested."""
    if asked is not None and asked > there:
        raise UserError(f"--{split}-images {asked}: there are only {there} in {data}")


def _loaded(setting: Setting, task: Task, path: Path) -> dict[str, Tensor]:
    """Load a checkpoint to the task's device; raise if a weight is not finite."""
    arrays = _weights(path) if setting.reads_foreign_checkpoints else own_weights(path, setting.title)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path} holds a non-finite number in {name}: its training has diverged")
    return task.load(arrays, str(path))


def _weights(path: Path) -> Arrays:
    return split_masks(read_foreign(path).arrays)[0]


def _fitting(model: str, arrays: Arrays, source: Path) -> tuple[nn.Module, Arrays]:
    """The network of this name that the weights fit, and the weights under its names.

    The weights do not say which convolution the image enters: each number of input channels is tried, the smallest
    first.

    Raises
    ------
    UserError
        When they fit for no number of colour channels.
    """
    matrices = [array for array in arrays.values() if array.ndim == 2]
    channels = sorted({array.shape[1] for array in arrays.values() if array.ndim == 4})
    if not channels or not matrices:
        raise UserError(f"{source} contains no convolution or no classifier: it is of another architecture")
    unfit: list[UserError] = []
    for count in channels:
        network = families.build(model, classes=len(matrices[-1]), channels=count, image_size=32)
        try:
            return network, match(arrays, network, source)
        except UserError as error:
            unfit.append(error)
    raise unfit[0]
