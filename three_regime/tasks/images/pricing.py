"""Pricing of image studies: images to process at measured rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from three_regime.config import Training
from three_regime.datasets.registry import DATASETS
from three_regime.models import families
from three_regime.models.sizes import UNCOUNTED, Size, size
from three_regime.study.grid import Study
from three_regime.tasks.pack_sizes import pays_on_cpu
from three_regime.tasks.pricing import Pricer, Speed, Work
from three_regime.tasks.rates import ModelRates, Rates


def image_speed(rates: Rates, study: Study) -> Speed | None:
    """Rates for a study's network, scaled from the most similar measured network if necessary.

    None if the model family does not count its layers, since its work is then unknown.
    """
    if (ours := network_size(study)) is None:
        return None
    side = DATASETS[study.config.dataset.name].image_size
    measured = rates.models.get(study.config.model)
    if measured and measured.image_size == side:
        return Speed(
            measured.train_images_per_s,
            measured.evaluate_images_per_s,
            measured.reestimate_images_per_s,
            together=_together(rates, study, measured),
            threads=rates.threads,
            relative_times=measured.relative_times,
        )
    family = families.parse(study.config.model).family

    def distance(item: tuple[str, ModelRates]) -> tuple[bool, float]:
        return families.parse(item[0]).family != family, abs(math.log(ours.multiply_adds / adds[item[0]]))

    adds = {name: counted.multiply_adds for name, each in rates.models.items() if (counted := _measured(name, each))}
    name, nearest = min(((name, rates.models[name]) for name in adds), key=distance)
    factor = adds[name] / ours.multiply_adds
    return Speed(
        nearest.train_images_per_s * factor,
        nearest.evaluate_images_per_s * factor,
        nearest.reestimate_images_per_s * factor,
        scaled=f"{name} at {nearest.image_size} pixels",
        threads=rates.threads,
        relative_times=nearest.relative_times,
    )


def _together(rates: Rates, study: Study, measured: ModelRates) -> float | None:
    """Training rate in lock-step; None if the study does not use it on this kind of device."""
    choice = study.config.lockstep
    if rates.on_gpu:
        allowed = choice != "off"
    else:
        by_engine = choice == "auto" and study.config.retrain.plain_sgd and bool(measured.relative_times)
        allowed = not by_engine and pays_on_cpu(choice, network_size(study).multiply_adds)
    return measured.together_images_per_s if allowed else None


def _measured(name: str, measured: ModelRates) -> Size | None:
    """Size of a measured network."""
    return size(name, classes=10, channels=3, image_size=measured.image_size)


def network_size(study: Study) -> Size | None:
    """Size of a study's network; None if its family does not count its layers."""
    entry = DATASETS[study.config.dataset.name]
    return size(study.config.model, classes=entry.classes, channels=entry.channels, image_size=entry.image_size)


@dataclass(frozen=True)
class ImagePricer(Pricer):
    """Work and bytes of the products of an image study."""

    @cached_property
    def train_images(self) -> int:
        """Training images of the study."""
        choice = self.study.config.dataset
        return choice.train_images or choice.entry.train_images

    @cached_property
    def test_images(self) -> int:
        """Test images of the study."""
        choice = self.study.config.dataset
        return choice.test_images or choice.entry.test_images

    @cached_property
    def network(self) -> Size:
        return network_size(self.study) or UNCOUNTED

    @property
    def counted(self) -> bool:
        return self.network is not UNCOUNTED

    def steps(self, training: Training) -> int:
        return training.steps_on(self.train_images)

    def epochs(self, training: Training) -> int:
        return training.epochs_on(self.train_images)

    def data_bytes(self) -> float:
        entry = self.study.config.dataset.entry
        return (entry.train_images + entry.test_images) * (entry.image_size**2 * entry.channels + 8)

    def _measured(self) -> Work:
        return Work(evaluate=float(self.train_images + self.test_images))

    def _training(self, training: Training, stop: int | None, last_epochs: int = 0) -> Work:
        """Priced by images, whatever the batch size."""
        steps = self.steps(training)
        seen = steps * training.batch_size if training.drop_last else self.train_images
        epochs = stop or self.epochs(training)
        images = epochs * seen if training.by_epoch else training.iterations / steps * seen
        every = training.evaluate_every
        late = sum(1 for epoch in range(epochs - min(last_epochs, epochs) + 1, epochs + 1) if epoch % every)
        passes = 2 if training.sam_rho > 0 else 1
        return Work(train=passes * images, evaluate=float(self.test_images * (epochs // every + late)))

    def _cka(self, replicas: int) -> Work:
        return Work(evaluate=float(self.study.config.measure.cka_images * replicas))

    def _lmc(self, points: int, pairs: int) -> Work:
        images = self.study.config.measure.train_images or self.train_images
        return Work(evaluate=float(points * (images + self.test_images)), reestimate=float(points * images))
