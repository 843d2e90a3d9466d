"""Compute the additional measures of the retrained networks of a pack (`three_regime.config.measures`)."""

from __future__ import annotations

import itertools
import logging
import numbers
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from three_regime.config import Training
from three_regime.config.measures import MEASURES, Measure
from three_regime.errors import Diverged, UserError
from three_regime.jobs.context import session_of, task_of
from three_regime.jobs.job import Job, state_file
from three_regime.jobs.pairs import check_stop, united
from three_regime.landscape.networks import Networks
from three_regime.pruning.masks import Masks, split_masks
from three_regime.random_streams import Streams
from three_regime.study.products import Product
from three_regime.system.device import convolution_precision
from three_regime.system.files import read_arrays
from three_regime.tasks.interface import SparseNetwork, Task
from three_regime.tasks.strategies import one_at_a_time, sparse_network
from three_regime.training.trainer import Checkpoint, Member, train_pack

log = logging.getLogger(__name__)


def compute(job: Job) -> None:
    """Compute the stale products, cell by cell; weights and outputs are shared among them."""
    task = task_of(job)
    numbered = enumerate(job.products, start=1)
    for _, cell in itertools.groupby(numbered, lambda each: each[1].coordinates["density"]):
        loaded: dict[Path, tuple[dict[str, Tensor], Masks]] = {}
        outputs: dict[Path, dict[str, np.ndarray]] = {}
        for number, product in cell:
            check_stop(job, product)
            log.info("%s: %d of %d", product.label, number, len(job.products))
            with job.going_on():
                _measure(job, task, product, loaded, outputs)


def _measure(
    job: Job,
    task: Task,
    product: Product,
    loaded: dict[Path, tuple[dict[str, Tensor], Masks]],
    outputs: dict[Path, dict[str, np.ndarray]],
) -> None:
    began = time.monotonic()
    measure = MEASURES[product.recipe["measure"]]
    files = {role: path for role, path in product.inputs.items() if role != "data"}
    for path in files.values():
        if path not in loaded:
            arrays, masks = split_masks(read_arrays(path))
            loaded[path] = task.load(arrays, str(path)), masks
    pruned = loaded[files.pop("pruned")][0] if measure.pruned else None
    paths = list(files.values())
    weights = [loaded[path][0] for path in paths]
    trained: list[float] = []  # seconds of earlier, interrupted jobs, for each network that the measure trains
    kept = united(loaded[path][1] for path in paths)
    network = sparse_network(task, kept, weights) if measure.engine else None

    def train(other: Task, training: Training, start: Mapping[str, Tensor]) -> Checkpoint:
        started = time.monotonic()
        found = _trained(job, other, training, start, kept, product, len(trained) + 1)
        trained.append(found.earlier_s(started))
        return found

    networks = Networks(
        task,
        one_at_a_time(task, network),
        job.study.config,
        weights,
        pruned,
        kept,
        product.recipe,
        Streams((*product.recipe["streams"], product.recipe.get("seed", 0))),
        lambda place: _outputs(job, task, network or task, product, paths[place], weights[place], outputs),
        train,
    )
    try:
        with convolution_precision(tf32=False), job.stop.at_once():
            results = _checked(measure, measure.load()(networks))
    except Diverged as error:  # in training, which names the product, or in measuring
        named = str(error) if product.label in str(error) else f"{product.label}: {error}"
        raise Diverged(named) from error
    said = ", ".join(f"{column.name} {results[column.name]:.4g}" for column in measure.columns)
    log.info("%s: %s", product.label, said)
    wall_s = time.monotonic() - began + sum(trained)
    without = None if measure.engine else "plain"
    computed_with = network.computed_with if network else without
    job.commit(product, results, wall_s=wall_s, computed_with=computed_with)


def _checked(measure: Measure, results: Mapping[str, Any]) -> dict[str, Any]:
    """Results with numbers and lists of Python in place of those of numpy.

    Raises
    ------
    UserError
        When a column is missing or not a number.
    """
    for column in measure.columns:
        value = results.get(column.name)
        if not isinstance(value, (numbers.Real, np.number)):
            found = "is missing" if column.name not in results else f"is a {type(value).__name__}, not a number"
            raise UserError(f"measure {measure.name}: {column.name} {found} in the results of {measure.function}")
    return {name: _plain(value) for name, value in results.items()}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _outputs(
    job: Job,
    task: Task,
    network: Task | SparseNetwork,
    product: Product,
    path: Path,
    weights: Mapping[str, Tensor],
    known: dict[Path, dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Outputs of a replica on the inputs of CKA, computed by `network` and kept in `known`.

    Raises
    ------
    UserError
        When the recipe of the product does not say which inputs these are, so it would not follow a change of them.
    """
    setting = job.study.setting
    inputs = setting.cka_recipe(job.study.config.measure)
    if not inputs.items() <= product.recipe.items():
        raise UserError(
            f"measure {product.recipe['measure']} reads outputs, so its results depend on {', '.join(inputs)}: register"
            " it with settings=three_regime.config.measures.inputs_of_cka"
        )
    if path not in known:
        count = min(inputs[setting.unit], task.comparable)
        known[path] = dict(network.outputs(weights, count))
    return known[path]


def _trained(
    job: Job,
    task: Task,
    training: Training,
    start: Mapping[str, Tensor],
    masks: Masks,
    product: Product,
    number: int,
) -> Checkpoint:
    """Train `task` from `start`, the network of this `number` that the product trains."""
    found: list[Checkpoint] = []
    deliver: Callable[[Checkpoint], Any] = found.append
    member = Member(
        label=product.label,
        key=product.fingerprint if number == 1 else f"{product.fingerprint}/{number}",
        streams=Streams(tuple(product.recipe["streams"])),
        start={name: value.cpu().numpy() for name, value in start.items()},
        masks=masks,
        checkpoints=(),
        state=state_file(job.study, product, None if number == 1 else number),
        deliver=deliver,
        keep_state=True,  # until the trained network has been measured
    )
    with job.stop.between_steps():
        train_pack(task, training, [member], session_of(job))
    return found[-1]
