"""Pricing shared by all settings: work, its duration at measured rates, and disk space."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from three_regime.config import Training
from three_regime.config.measures import MEASURES
from three_regime.config.optimisers import OPTIMISERS
from three_regime.models.sizes import Size
from three_regime.pruning.criteria import CRITERIA
from three_regime.study.grid import Study
from three_regime.study.products import Product, discarded_stages

PRUNED_PARAMETERS_PER_S = 5e6
"""Parameters ranked, masked and written per second by one CPU core (measured here; order of magnitude only)."""

JOB_START_S = {"prune": 1.0}
"""Seconds until a job of a stage starts computing; `OTHER_START_S` for the other stages, which import torch."""

OTHER_START_S = 6.0

_TENSOR_BYTES, _FILE_BYTES, _NAME_BYTES = 85, 400, 25
"""Bytes per tensor in a safetensors header, of the rest of the header, and per layer in its metadata (these and the
following measured on files of this project)."""

_RECORD_BYTES = {"dense": 1470, "prune": 1270, "retrain": 1670}
"""Bytes of a JSON result without its lists."""

_EPOCH_BYTES, _LAYER_BYTES, _PAIR_BYTES, _POINT_BYTES = 225, 74, 1250, 95
"""Bytes per epoch in the history; per layer in the counts; of a pair's JSON result without its line; per point on the
line."""


@dataclass(frozen=True)
class Work:
    """Amounts of work: images or tokens processed forward and backward (`train`; `together` in lock-step) or forward
    only (`evaluate`, `reestimate`), parameters ranked for pruning, and sentences of the reference length decoded."""

    train: float = 0.0
    evaluate: float = 0.0
    reestimate: float = 0.0
    ranked: float = 0.0
    decoded: float = 0.0
    together: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.train + other.train,
            self.evaluate + other.evaluate,
            self.reestimate + other.reestimate,
            self.ranked + other.ranked,
            self.decoded + other.decoded,
            self.together + other.together,
        )


@dataclass(frozen=True)
class Speed:
    """Rates of one study's network, in images or tokens per second; of `decode`, in sentences per second.

    `scaled` names the measured network that the rates are scaled from by multiply-adds; empty if the network itself was
    measured. `threads` is the number of CPU threads of the measurement. `relative_times` maps densities to the times of
    training and of a forward pass of a pruned network computed alone, relative to the dense network.
    """

    train: float
    evaluate: float
    reestimate: float
    scaled: str = ""
    decode: float = math.inf
    together: float | None = None
    threads: int = 1
    relative_times: Mapping[float, tuple[float, float]] = field(default_factory=dict)

    def at(self, density: float | None) -> Speed:
        """Rates of the network pruned to `density` (None: dense), interpolated linearly between measured densities."""
        if density is None or not self.relative_times:
            return self
        measured = {**self.relative_times, 1.0: (1.0, 1.0)}
        known = sorted(measured)
        train, forward = (
            min(1.0, float(np.interp(density, known, [measured[each][i] for each in known]))) for i in (0, 1)
        )
        return replace(
            self,
            train=self.train / train,
            evaluate=self.evaluate / forward,
            reestimate=self.reestimate / forward,
        )

    def seconds(self, work: Work) -> float:
        """Time of `work` on one device."""
        return (
            work.train / self.train
            + work.together / max(self.together or 0.0, self.train)
            + work.evaluate / self.evaluate
            + work.reestimate / self.reestimate
            + work.ranked / PRUNED_PARAMETERS_PER_S
            + work.decoded / self.decode
        )


@dataclass(frozen=True)
class Pricer(ABC):
    """Work and bytes of a study's products."""

    study: Study

    @property
    @abstractmethod
    def network(self) -> Size:
        """Size of the study's network; ``UNCOUNTED`` when its family does not count its layers."""

    @property
    def counted(self) -> bool:
        """Whether the size of the network is known, and with it the bytes of its weights."""
        return True

    @abstractmethod
    def steps(self, training: Training) -> int:
        """Steps per epoch."""

    @abstractmethod
    def epochs(self, training: Training) -> int:
        """Epochs of a run; the last may be incomplete."""

    @abstractmethod
    def data_bytes(self) -> float:
        """Bytes of the prepared data."""

    @property
    def assumed(self) -> str:
        """What the price assumes of data that have not been prepared, or lacks; empty if it is counted."""
        return ""

    @property
    def score_bytes(self) -> float:
        """Bytes that a measured checkpoint's JSON result holds beyond its record and history."""
        return 0.0

    @abstractmethod
    def _training(self, training: Training, stop: int | None, last_epochs: int = 0) -> Work:
        """Work of one run to epoch `stop` or its end; the `last_epochs` are always evaluated."""

    @abstractmethod
    def _measured(self) -> Work:
        """Work of measuring one finished checkpoint."""

    @abstractmethod
    def _cka(self, replicas: int) -> Work:
        """Work of computing the outputs of `replicas`."""

    @abstractmethod
    def _lmc(self, points: int, pairs: int) -> Work:
        """Work of measuring `points` on the lines of `pairs`; pairs share their replicas' points."""

    def job(self, products: Sequence[Product]) -> Work:
        """Work of one job that computes the given products."""
        if not products:
            return Work()
        stage, measure = products[0].stage, self.study.config.measure
        if stage == "dense":
            return self._dense(products)
        if stage == "prune":
            ranked = Work(ranked=float(self.network.parameters * len(products)), train=self._gradients(len(products)))
            return ranked + self._rounds(len(products))
        if stage == "retrain":
            one = self._training(self.study.config.retrain, None, measure.last_epochs) + self._measured()
            whole = sum((one for _ in products), Work())
            together = self.study.setting.packs_advance_together and len(products) > 1
            return replace(whole, train=0.0, together=whole.train) if together else whole
        if stage == "measures":
            return self._measures(products)
        replicas = {product.inputs[role] for product in products for role in ("first", "second")}
        if stage == "cka":
            return self._cka(len(replicas))
        return self._lmc(len(replicas) + len(products) * (measure.points - 2), len(products))

    def outputs(self, replicas: int) -> Work:
        """Work of computing the outputs of `replicas` on the inputs of CKA."""
        return self._cka(replicas)

    def passes(self, inputs: float) -> Work:
        """Work of forward and backward passes over `inputs` images or tokens."""
        return Work(train=inputs)

    def points(self, count: int) -> Work:
        """Work of measuring `count` networks as on the line of LMC."""
        return self._lmc(count, 0)

    def curves(self, pairs: int) -> Work:
        """Work of training the Bezier curves of `pairs` and measuring the points along them."""
        measure, retrain = self.study.config.measure, self.study.config.retrain
        epochs = measure.bezier.epochs  # as `landscape.bezier.training_of`: evaluated once, without SAM
        changed = {"epochs": epochs, "iterations": None, "milestones": (), "evaluate_every": epochs, "sam_rho": 0.0}
        bend = self._training(retrain.model_copy(update=changed), None)
        return sum((bend for _ in range(pairs)), self._lmc(pairs * measure.points, 0))

    @property
    def unpriced_measures(self) -> list[str]:
        """Additional measures of the study whose work is unknown."""
        return [name for name in self.study.config.measure.also if MEASURES[name].work is None]

    def _measures(self, products: Sequence[Product]) -> Work:
        """Work of additional measures, each priced by its entry; outputs shared by several are counted repeatedly."""
        cells: dict[tuple, list[Product]] = {}
        for product in products:
            cells.setdefault((product.recipe["measure"], product.coordinates["density"]), []).append(product)
        total = Work()
        for (name, _), cell in cells.items():
            replicas = {path for product in cell for role, path in product.inputs.items() if role != "data"}
            if work := MEASURES[name].work:
                total += work(self, len(cell), len(replicas))
        return total

    def _rounds(self, densities: int) -> Work:
        """Work of the training between rounds of pruning, for each density."""
        config = self.study.config
        if not config.prune.trains:
            return Work()
        between = self._training(config.between_rounds, None)
        return sum((between for _ in range(densities * (config.prune.rounds - 1))), Work())

    def _gradients(self, densities: int) -> float:
        """Images or tokens in the gradients of a pruning criterion: once for the dense network, then in each round."""
        prune, training = self.study.config.prune, self.study.config.retrain
        if not CRITERIA[prune.criterion].needs_gradients:
            return 0.0
        passes = 1 + densities * (prune.rounds - 1)
        return float(passes * prune.gradient_batches * training.batch_size * training.accumulate)

    def seconds(self, products: Sequence[Product], speed: Speed) -> float:
        """Time of one job; networks computed alone by the engine run at the speed of their density."""
        alone = speed.together is None and bool(speed.relative_times)
        if not alone or not products or products[0].stage in ("dense", "prune"):
            return speed.seconds(self.job(products))
        cells: dict[float | None, list[Product]] = {}
        for product in products:
            by_engine = product.stage != "measures" or MEASURES[product.recipe["measure"]].engine
            cells.setdefault(product.coordinates["density"] if by_engine else None, []).append(product)
        return sum(speed.at(density).seconds(self.job(cell)) for density, cell in cells.items())

    def _dense(self, products: Sequence[Product]) -> Work:
        measured = sum((self._measured() for _ in products), Work())
        if self.study.knob.setting is None:  # one run yields every checkpoint
            last = max(int(product.coordinates["temperature"]) for product in products)
            return measured + self._training(self.study.config.dense, last)
        runs = (self.study.config.dense_at(product.coordinates["temperature"]) for product in products)
        return sum((self._training(run, None) for run in runs), measured)

    def dense_epochs(self, temperature: float) -> int:
        """Epochs in the history of a dense checkpoint."""
        if self.study.knob.setting is None:
            return int(temperature)
        return self.epochs(self.study.config.dense_at(temperature))

    @cached_property
    def retrain_epochs(self) -> int:
        """Epochs of a retraining."""
        return self.epochs(self.study.config.retrain)

    def bytes(self, product: Product) -> float:
        """Bytes of the files of a finished product that its study keeps."""
        stage, config, layers = product.stage, self.study.config, self.network.prunable_tensors
        weights = 0.0 if stage in discarded_stages(self.study) else self._weights(product.coordinates.get("density"))
        if stage == "dense":
            epochs = self.dense_epochs(product.coordinates["temperature"])
            return _RECORD_BYTES["dense"] + self.score_bytes + _EPOCH_BYTES * epochs + weights
        if stage == "prune":
            return _RECORD_BYTES["prune"] + _LAYER_BYTES * layers + weights
        if stage == "retrain":
            return _RECORD_BYTES["retrain"] + self.score_bytes + _EPOCH_BYTES * self.retrain_epochs + weights
        return _PAIR_BYTES + (_POINT_BYTES * config.measure.points if stage == "lmc" else 0)

    def _weights(self, density: float | None) -> float:
        """Bytes of a checkpoint: dense, or sparse (kept values and one bit per prunable weight)."""
        network = self.network
        dense = _FILE_BYTES + 4 * network.parameters + network.buffer_bytes + _TENSOR_BYTES * network.tensors
        if density is None:
            return dense + _NAME_BYTES * network.prunable_tensors
        saved = 4 * (1 - density) * network.prunable - network.prunable / 8
        return dense - saved + (_TENSOR_BYTES + _NAME_BYTES) * network.prunable_tensors

    @property
    def kept_state_bytes(self) -> float:
        """Bytes of the training state that the epochs knob keeps for each dense seed; 0 for other knobs."""
        if self.study.knob.setting is not None or self.study.config.keep == "none":
            return 0.0
        slots = len(OPTIMISERS[self.study.config.dense.optimiser].slots)
        history = _EPOCH_BYTES * max(self.study.temperatures)
        return 4 * self.network.parameters * (1 + slots) + self.network.buffer_bytes + history
