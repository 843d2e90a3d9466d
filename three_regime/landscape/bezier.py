"""Mode connectivity along a trained curve: can a path avoid the barrier on the straight line?

Garipov et al. (NeurIPS 2018), section 3: the quadratic Bezier curve φ(t) = (1 − t)² w₁ + 2t(1 − t) θ + t² w₂ connects
two networks. Its bend θ starts at their midpoint and is trained to minimise the mean loss at uniformly random t. The
gradients are masked, so every network on the curve is as sparse as the ends. Errors along the trained curve are
measured as on the line, with BatchNorm re-estimated at every point (`mode_connectivity`). Weight decay acts on the
bend itself; Garipov et al. add it to the loss of the network at t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from three_regime.config import Training
from three_regime.kernels import Kernels
from three_regime.landscape import mode_connectivity
from three_regime.landscape.networks import Networks
from three_regime.pruning.masks import Masks
from three_regime.random_streams import Streams
from three_regime.tasks.interface import Epoch, Metrics, SparseNetwork, Split, Task, Weights
from three_regime.tasks.strategies import sparse_network


def on_curve(first: Tensor, bend: Tensor, second: Tensor, t: float) -> Tensor:
    """Point of the quadratic Bezier curve at `t`; exact at both ends."""
    if t in (0.0, 1.0):
        return second if t else first
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * bend + t**2 * second


@dataclass(frozen=True)
class CurveEpoch:
    """Batches of an epoch, with a random position on the curve for each step."""

    steps: int
    inner: Epoch
    places: list[float]

    def micro_batches(self, step: int) -> tuple[Any, ...]:
        return tuple((batch, self.places[step]) for batch in self.inner.micro_batches(step))


class CurveTask:
    """Task that trains a bend: its parameters are θ, its loss is that of the network at a random position."""

    def __init__(self, task: Task, first: Weights, second: Weights) -> None:
        self.task, self.first, self.second = task, first, second
        self.unit, self.device, self.prunable = task.unit, task.device, task.prunable
        self.parameters, self.buffers = task.parameters, task.buffers

    def at(self, parameters: Weights, t: float) -> dict[str, Tensor]:
        """Parameters of the network at `t`."""
        return {name: on_curve(self.first[name], parameters[name], self.second[name], t) for name in self.parameters}

    def epoch(self, streams: Streams, epoch: int, training: Training) -> CurveEpoch:
        inner = self.task.epoch(streams, epoch, training)
        places = streams.generator("curve", epoch).random(inner.steps).tolist()
        return CurveEpoch(inner.steps, inner, places)

    def loss(self, parameters: Weights, buffers: Weights, batch: Any) -> tuple[Tensor, Tensor, int]:
        inner, t = batch
        return self.task.loss(self.at(parameters, t), buffers, inner)

    def sparse(self, masks: Masks, only: Kernels | None = None) -> SparseCurve | None:
        """See `Sparsifiable`; None if the engine does not compute the networks on the curve."""
        network = sparse_network(self.task, masks, (self.first, self.second), only)
        return None if network is None else SparseCurve(self, network)

    def targets(self, batch: Any) -> int:
        return self.task.targets(batch[0])

    def halves(self, batch: Any) -> tuple[Any, Any] | None:
        found = self.task.halves(batch[0])
        return None if found is None else ((found[0], batch[1]), (found[1], batch[1]))

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """As `Task.evaluate`, for the network at t = 0.5 with the BatchNorm statistics of the training."""
        return self.task.evaluate({**weights, **self.at(weights, 0.5)}, split, images)


class SparseCurve:
    """Trains and evaluates a bend by the sparse engine (`SparseNetwork`)."""

    def __init__(self, curve: CurveTask, network: SparseNetwork) -> None:
        self.curve, self.network, self.computed_with = curve, network, network.computed_with
        self.first, self.second = (
            torch.cat([weights[name].reshape(-1) for name in curve.parameters])
            for weights in (curve.first, curve.second)
        )

    def removed_are_zero(self, weights: Mapping[str, Any]) -> bool:
        return self.network.removed_are_zero(weights)

    def step(
        self,
        parameters: Tensor,
        momentum: Tensor,
        buffers: Weights,
        epoch: CurveEpoch,
        step: int,
        training: Training,
        rate: float,
    ) -> tuple[Tensor, Tensor, int]:
        """See `SparseNetwork`; the gradient of the bend is 2t(1 - t) times that of the network at t."""
        t = epoch.places[step]
        # 1. The engine's step without momentum, decay and rate leaves the network's gradient in place of a momentum.
        network, gradient = on_curve(self.first, parameters, self.second, t), torch.zeros_like(parameters)
        still = training.model_copy(update={"momentum": 0.0, "weight_decay": 0.0})
        loss, errors, count = self.network.step(network, gradient, buffers, epoch.inner, step, still, 0.0)
        # 2. SGD on the bend.
        gradient.mul_(2 * t * (1 - t)).add_(parameters, alpha=training.weight_decay)
        parameters.sub_(momentum.mul_(training.momentum).add_(gradient), alpha=rate)
        return loss, errors, count

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """As `CurveTask.evaluate`."""
        return self.network.evaluate({**weights, **self.curve.at(weights, 0.5)}, split, images)


def middle(task: Task, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Start of a bend: the midpoint, with the BatchNorm statistics of `first`."""
    return mode_connectivity.between(task, first, second, 0.5)


def training_of(networks: Networks) -> Training:
    """Training settings of a bend: those of retraining, but shorter and with a lower, linearly annealed rate."""
    settings, retrain = networks.config.measure.bezier, networks.config.retrain
    changed = {
        "epochs": settings.epochs,
        "iterations": None,
        "milestones": (),
        "schedule": "linear",
        "warmup": 0,
        "learning_rate": settings.learning_rate or retrain.learning_rate / 10,
        "sam_rho": 0.0,
        "evaluate_every": settings.epochs,
    }
    return Training.model_validate({**{name: getattr(retrain, name) for name in Training.model_fields}, **changed})


def bezier_of(networks: Networks) -> dict[str, Any]:
    """Train the bend of a pair, and measure the networks along the curve.

    Returns
    -------
    The results of `mode_connectivity.line`, with ``bezier`` for ``lmc`` in their names; ``bezier_barrier``, the mean
    training error of the ends minus the highest on the curve, at most about 0; and ``training_loss`` of the bend,
    epoch by epoch. A trained curve often dips below its ends, and ``bezier``, the largest deviation of either sign, is
    then positive although the error rises elsewhere.
    """
    task, measure = networks.task, networks.config.measure
    first, second = networks.weights
    curve = CurveTask(task, first, second)
    trained = networks.train(curve, training_of(networks), middle(task, first, second))
    bend = {name: torch.from_numpy(trained.weights[name]).to(task.device) for name in task.parameters}
    along = ({**first, **curve.at(bend, t)} for t in mode_connectivity.positions(measure.points))
    path = list(mode_connectivity.measure(networks.stack, along, measure.batch_size, measure.train_images))
    line = mode_connectivity.line(path)
    errors = line["train_error"]
    return {
        **{name.replace("lmc", "bezier"): value for name, value in line.items()},
        "bezier_barrier": (errors[0] + errors[-1]) / 2 - max(errors),
        "training_loss": [row["train_loss"] for row in trained.history],
    }
