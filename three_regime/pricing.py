"""What work costs: images to process at measured rates, and bytes on disk. No torch.

Rates are measured by ``benchmarks/`` and lie in ``benchmarks/rates/<name>.json``, one file a machine and device::

    {"device": "cuda", "measured": "2026-11-22", "machine": {"name": "NVIDIA H200", ...}, "threads": 1,
     "models": {"preresnet-20": {"train_images_per_s": ..., "evaluate_images_per_s": ...,
                                 "reestimate_images_per_s": ..., "parameters": 272282, "image_size": 32}}}

`image_size` may be left out and is 32 then; every other key of a model must be there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from three_regime import models
from three_regime.config import Training
from three_regime.datasets import DATASETS
from three_regime.errors import UserError
from three_regime.models.sizes import Size, size
from three_regime.optimisers import OPTIMISERS
from three_regime.packs import pays_on_cpu
from three_regime.stages import DISCARDED, Product
from three_regime.storage import read_json
from three_regime.study import Study

RATES = Path("benchmarks/rates")

PRUNED_PARAMETERS_PER_S = 5e6
"""Parameters ranked, masked and written a second by one CPU core (this project's measurement, an order only)."""

JOB_START_S = {"prune": 1.0}
"""Seconds until a job of a stage begins to compute; `OTHER_START_S` for the others, which import torch."""

OTHER_START_S = 6.0

_TENSOR_BYTES, _FILE_BYTES, _NAME_BYTES = 85, 400, 25
"""Bytes of a tensor's entry in a safetensors header, of the rest of the header, and of a layer's entry in its metadata
(measured on this project's files, as are the next)."""

_RECORD_BYTES = {"dense": 1470, "prune": 1270, "retrain": 1670}
"""Bytes of a JSON result without what grows."""

_EPOCH_BYTES, _LAYER_BYTES, _PAIR_BYTES, _POINT_BYTES = 225, 74, 1250, 95
"""Bytes of an epoch in the history; of a layer's counts; of a pair's JSON result without its line; of a point on the
line."""


class ModelRates(BaseModel):
    """Measured rates of one network in images a second."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    train_images_per_s: float = Field(gt=0)
    evaluate_images_per_s: float = Field(gt=0)
    reestimate_images_per_s: float = Field(gt=0)
    together_images_per_s: float | None = Field(None, gt=0)  # training, all members of a pack in lock-step
    parameters: int = Field(gt=0)
    image_size: int = Field(32, gt=0)


class TextRates(BaseModel):
    """Measured rates of one Transformer (`three_regime.pricing_text`)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    train_tokens_per_s: float = Field(gt=0)
    evaluate_tokens_per_s: float = Field(gt=0)
    decode_sentences_per_s: float = Field(gt=0)
    subwords: int = Field(gt=0)


class Rates(BaseModel):
    """One file of measured rates."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    device: str
    machine: dict[str, Any] = {}
    threads: int = 1
    measured: date | None = None
    models: dict[str, ModelRates] = Field(min_length=1)
    text_models: dict[str, TextRates] = {}

    @property
    def on_gpu(self) -> bool:
        return not self.device.lower().startswith("cpu")

    @property
    def title(self) -> str:
        """Device, machine and date in words."""
        name = self.machine.get("name") or self.machine.get("gpu") or self.machine.get("cpu") or ""
        when = f", measured {self.measured}" if self.measured else ""
        threads = "" if self.on_gpu else f", {self.threads} thread{'s'[: self.threads > 1]}"
        return f"{self.device}{f' ({name})' if name else ''}{threads}{when}"


def read_rates(folder: Path, device: str = "auto") -> Rates | None:
    """The rates for a device, the latest where there are several; None when nothing has been measured.

    Parameters
    ----------
    device
        ``auto`` (a GPU where one was measured, else the CPU), ``cuda``, ``cpu``, or part of a file's name or device.

    Raises
    ------
    UserError
        When a file is not in the format above, or no rates are those of `device`.
    """
    found: dict[str, Rates] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = Rates.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    ordered = sorted(found.items(), key=lambda item: (item[1].on_gpu, item[1].measured or date.min))
    wanted = {"auto": lambda _, rates: True, "cuda": lambda _, rates: rates.on_gpu,
              "cpu": lambda _, rates: not rates.on_gpu}.get(
        device, lambda name, rates: device.lower() in f"{name} {rates.title}".lower()
    )  # fmt: skip
    chosen = [rates for name, rates in ordered if wanted(name, rates)]
    if not chosen and device != "auto":
        raise UserError(f"no rates of device '{device}' in {folder}; there are {', '.join(found) or 'none'}")
    return chosen[-1] if chosen else None


@dataclass(frozen=True)
class Work:
    """Images or tokens that pass through a network, forward and back (`train`, and `together` for members that advance
    in lock-step) or forward only; parameters that are ranked; sentences that are translated."""

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
    """Rates of one study's network.

    `scaled` names the measured network that they were scaled from, by multiply-adds of one image; empty when the
    network itself was measured.
    """

    train: float
    evaluate: float
    reestimate: float
    scaled: str = ""
    decode: float = math.inf
    together: float | None = None

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


def speed(rates: Rates, study: Study) -> Speed:
    """Rates of a study's network; one that was not measured is scaled from the nearest that was."""
    ours = network_size(study)
    side = DATASETS[study.config.dataset.name].image_size
    measured = rates.models.get(study.config.model)
    if measured and measured.image_size == side:
        return Speed(
            measured.train_images_per_s,
            measured.evaluate_images_per_s,
            measured.reestimate_images_per_s,
            together=_together(rates, study, measured),
        )
    family = models.parse(study.config.model).family

    def distance(item: tuple[str, ModelRates]) -> tuple[bool, float]:
        return models.parse(item[0]).family != family, abs(math.log(ours.multiply_adds / _multiply_adds(*item)))

    name, nearest = min(rates.models.items(), key=distance)
    factor = _multiply_adds(name, nearest) / ours.multiply_adds
    return Speed(
        nearest.train_images_per_s * factor,
        nearest.evaluate_images_per_s * factor,
        nearest.reestimate_images_per_s * factor,
        scaled=f"{name} at {nearest.image_size} pixels",
    )


def _together(rates: Rates, study: Study, measured: ModelRates) -> float | None:
    """Rate of members in lock-step, where the study lets them advance so on this kind of device."""
    allowed = study.config.lockstep != "off" if rates.on_gpu else pays_on_cpu(
        study.config.lockstep, network_size(study).multiply_adds
    )  # fmt: skip
    return measured.together_images_per_s if allowed else None


def _multiply_adds(name: str, measured: ModelRates) -> int:
    return size(name, classes=10, channels=3, image_size=measured.image_size).multiply_adds


def network_size(study: Study) -> Size:
    """Size of a study's network."""
    entry = DATASETS[study.config.dataset.name]
    return size(study.config.model, classes=entry.classes, channels=entry.channels, image_size=entry.image_size)


@dataclass(frozen=True)
class Pricer:
    """Work and bytes of a study's products."""

    study: Study

    @cached_property
    def train_images(self) -> int:
        choice = self.study.config.dataset
        return choice.train_images or DATASETS[choice.name].train_images

    @cached_property
    def test_images(self) -> int:
        choice = self.study.config.dataset
        return choice.test_images or DATASETS[choice.name].test_images

    @cached_property
    def network(self) -> Size:
        return network_size(self.study)

    def job(self, products: Sequence[Product]) -> Work:
        """Work of one job: the given products of its pack, which have to be computed."""
        if not products:
            return Work()
        stage, config = products[0].stage, self.study.config
        if stage == "dense":
            return self._dense(products)
        if stage == "retrain":
            one = self._training(config.retrain, None, config.measure.last_epochs) + self._measured()
            whole = sum((one for _ in products), Work())
            return replace(whole, train=0.0, together=whole.train) if len(products) > 1 else whole
        if stage == "prune":
            return Work(ranked=float(self.network.parameters * len(products)))
        replicas = {product.inputs[role] for product in products for role in ("first", "second")}
        if stage == "cka":
            return Work(evaluate=float(config.measure.cka_images * len(replicas)))
        images = config.measure.train_images or self.train_images
        points = len(replicas) + len(products) * (config.measure.points - 2)
        return Work(evaluate=float(points * (images + self.test_images)), reestimate=float(points * images))

    def _dense(self, products: Sequence[Product]) -> Work:
        measured = sum((self._measured() for _ in products), Work())
        if self.study.knob.setting is None:  # one run passes every checkpoint
            last = max(int(product.coordinates["temperature"]) for product in products)
            return measured + self._training(self.study.config.dense, last)
        runs = (self.study.config.dense_at(product.coordinates["temperature"]) for product in products)
        return sum((self._training(run, None) for run in runs), measured)

    def _measured(self) -> Work:
        return Work(evaluate=float(self.train_images + self.test_images))

    def _training(self, training: Training, stop: int | None, last_epochs: int = 0) -> Work:
        """One run: to epoch `stop`, or to its end; priced by images, however many a step has."""
        whole = self.train_images // training.batch_size
        steps = whole if training.drop_last else math.ceil(self.train_images / training.batch_size)
        seen = steps * training.batch_size if training.drop_last else self.train_images
        epochs = stop or training.epochs_on(self.train_images)
        images = epochs * seen if training.by_epoch else training.iterations / steps * seen
        every = training.evaluate_every
        late = sum(1 for epoch in range(epochs - min(last_epochs, epochs) + 1, epochs + 1) if epoch % every)
        passes = 2 if training.sam_rho > 0 else 1
        return Work(train=passes * images, evaluate=float(self.test_images * (epochs // every + late)))

    def dense_epochs(self, temperature: float) -> int:
        """Epochs in the history of a dense checkpoint."""
        if self.study.knob.setting is None:
            return int(temperature)
        return self.study.config.dense_at(temperature).epochs_on(self.train_images)

    @cached_property
    def retrain_epochs(self) -> int:
        """Epochs of a retraining."""
        return self.study.config.retrain.epochs_on(self.train_images)

    def bytes(self, product: Product) -> float:
        """Bytes of the files of a product that its study keeps, when it is finished."""
        stage, config, layers = product.stage, self.study.config, self.network.prunable_tensors
        weights = 0.0 if stage in DISCARDED[config.keep] else self._weights(product.coordinates.get("density"))
        if stage == "dense":
            epochs = self.dense_epochs(product.coordinates["temperature"])
            return _RECORD_BYTES["dense"] + _EPOCH_BYTES * epochs + weights
        if stage == "prune":
            return _RECORD_BYTES["prune"] + _LAYER_BYTES * layers + weights
        if stage == "retrain":
            return _RECORD_BYTES["retrain"] + _EPOCH_BYTES * self.retrain_epochs + weights
        return _PAIR_BYTES + (_POINT_BYTES * config.measure.points if stage == "lmc" else 0)

    def _weights(self, density: float | None) -> float:
        """Bytes of a checkpoint: dense, or with the kept values and one bit for each prunable weight (`sparse`)."""
        network = self.network
        dense = _FILE_BYTES + 4 * network.parameters + network.buffer_bytes + _TENSOR_BYTES * network.tensors
        if density is None:
            return dense + _NAME_BYTES * network.prunable_tensors
        saved = 4 * (1 - density) * network.prunable - network.prunable / 8
        return dense - saved + (_TENSOR_BYTES + _NAME_BYTES) * network.prunable_tensors

    @property
    def kept_state_bytes(self) -> float:
        """Bytes of the training state that the epochs knob keeps for each dense seed; 0 for the other knobs."""
        if self.study.knob.setting is not None or self.study.config.keep == "none":
            return 0.0
        slots = len(OPTIMISERS[self.study.config.dense.optimiser].slots)
        history = _EPOCH_BYTES * max(self.study.temperatures)
        return 4 * self.network.parameters * (1 + slots) + self.network.buffer_bytes + history

    def data_bytes(self) -> float:
        """Bytes of the prepared arrays of the study's data set."""
        entry = DATASETS[self.study.config.dataset.name]
        return (entry.train_images + entry.test_images) * (entry.image_size**2 * entry.channels + 8)
