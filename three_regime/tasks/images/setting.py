"""Torch-free half of image classification: configuration, recipes, preparation, price (`three_regime.settings`).

The other half is `three_regime.tasks.images.task`.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from three_regime.config.section import lowered, refused
from three_regime.datasets.registry import IMPLIED
from three_regime.errors import UserError
from three_regime.models import families
from three_regime.settings import Opened, Setting
from three_regime.study import provenance
from three_regime.study.fingerprints import fingerprint_of
from three_regime.study.results import FINGERPRINT_KEY
from three_regime.system.files import PROVENANCE_KEY, write_arrays

if TYPE_CHECKING:
    from three_regime.config import DatasetChoice, Measurement, StudyConfig, Training
    from three_regime.study.grid import Study
    from three_regime.tasks.images.pricing import ImagePricer
    from three_regime.tasks.images.task import ImageClassification
    from three_regime.tasks.pricing import Speed
    from three_regime.tasks.rates import Rates

log = logging.getLogger(__name__)


class ImageSetting(Setting):
    """Image classification (paper, section 3.1)."""

    kind = "images"
    title = "images"
    does = "classifies images"
    unit = "images"
    inputs = "training images"

    sizes = ("train_images", "test_images")
    dataset_keys = (*sizes, "label_noise")
    measure_keys = ("batch_size", "train_images", "cka_images", "last_epochs")
    caption_words: ClassVar = {
        **Setting.caption_words,
        "measured": "mean over the last epochs of retraining",
        "outputs": "on the first training images, each with its own BatchNorm statistics",
        "statistics": "; the statistics of BatchNorm are re-estimated at every point",
    }
    usual_temperatures: ClassVar = {"batch_size": 64.0, "learning_rate": 0.1}  # authors' code
    reads_foreign_checkpoints = True
    packs_advance_together = True

    def fill_training(self, training: Training, choice: DatasetChoice) -> Training:
        """Lower an unset batch size to the number of images."""
        return lowered(training, "batch_size", choice.images)

    def fill_measure(self, measure: Measurement, choice: DatasetChoice, retrain: Training) -> Measurement:
        if not retrain.steps_on(choice.images):  # refused by `check`
            return measure
        measure = lowered(measure, "cka_images", choice.images)
        return lowered(measure, "last_epochs", retrain.epochs_on(choice.images))

    def steps(self, training: Training, choice: DatasetChoice) -> int:
        return training.steps_on(choice.images)

    def check(self, study: StudyConfig) -> None:
        for section, training in (("dense", study.dense), ("retrain", study.retrain)):
            if training.precision == "bf16":
                raise ValueError(f"{section}.precision: bf16 is for translation only; use tf32 or fp32")
        images = study.dataset.images
        if (study.measure.train_images or 0) > images:
            raise ValueError("measure.train_images is more than the study's training images")
        for key, training in study.batches():
            if training.drop_last and training.batch_size > images:
                raise ValueError(
                    f"{key} {training.batch_size} exceeds the {images} training images, none would be used"
                )
            iterations = training.iterations_of(training.steps_on(images))
            if training.anneals and training.warmup >= iterations:
                raise ValueError(
                    f"{key.partition('.')[0]}.warmup {training.warmup} must be less than the {iterations} iterations of"
                    f" the run: schedule {training.schedule} would never anneal"
                )
        with refused():
            families.check_image_size(study.model, study.dataset.entry.image_size)
        if study.measure.cka_images > images:
            raise ValueError(f"measure.cka_images {study.measure.cka_images} exceeds the {images} training images")
        if study.retrain.epochs_on(images) < study.measure.last_epochs:
            raise ValueError(
                f"measure.last_epochs {study.measure.last_epochs} exceeds the {study.retrain.epochs_on(images)} epochs"
                " of retrain"
            )

    def prepare(self, choice: DatasetChoice, path: Path, raw: Path, recipe: dict[str, Any]) -> None:
        """Write the arrays ``{train,test}_images`` (N, H, W, C) uint8 and ``{train,test}_labels`` (N,) int64.

        Raises
        ------
        UserError
            Also when a split does not have the expected number of images, or the reader's arrays are of another form.
        """
        entry = choice.entry
        began = time.monotonic()
        fingerprint = fingerprint_of(recipe, {})
        arrays = entry.read(raw)
        for split, expected in (("train", entry.train_images), ("test", entry.test_images)):
            if len(arrays[f"{split}_images"]) != expected:
                found = len(arrays[f"{split}_images"])
                raise UserError(f"{entry.name} has {found} {split} images instead of {expected}")
        record = provenance.record(
            fingerprint=fingerprint,
            recipe=recipe,
            inputs={},
            device="cpu",
            threads=1,
            wall_s=time.monotonic() - began,
        )
        write_arrays(path, arrays, {FINGERPRINT_KEY: fingerprint, PROVENANCE_KEY: json.dumps(record)})
        log.info("%s: %s training and %s test images", path, f"{entry.train_images:,}", f"{entry.test_images:,}")

    def examples(self, choice: DatasetChoice) -> dict[str, Any]:
        """Which images are used, label noise if any, and how pixels are processed if not as the data set says."""
        implied = IMPLIED.get(choice.name, {})
        pixels = {key: value for key, value in choice.entry.treatment.items() if value != implied.get(key)}
        return {
            **{key: getattr(choice, key) for key in self.sizes},
            **super().examples(choice),
            **({"label_noise": choice.label_noise} if choice.label_noise else {}),
            **({"pixels": pixels} if pixels else {}),
        }

    def lmc_recipe(self, measure: Measurement) -> dict[str, Any]:
        return {"points": measure.points, "batch_size": measure.batch_size, "measured_images": measure.train_images}

    def cka_recipe(self, measure: Measurement) -> dict[str, Any]:
        return {self.unit: measure.cka_images}

    def line_examples(self, choice: DatasetChoice, measure: Measurement) -> tuple[int | None, int | None]:
        return measure.train_images or choice.train_images, choice.test_images

    def cka_examples(self, choice: DatasetChoice, measure: Measurement) -> int | None:
        return choice.train_images

    def pricer(self, study: Study) -> ImagePricer:
        from three_regime.tasks.images.pricing import ImagePricer

        return ImagePricer(study)

    def speed(self, rates: Rates, study: Study) -> Speed | None:
        from three_regime.tasks.images.pricing import image_speed

        return image_speed(rates, study)

    def task(self, study: Study, device: str) -> ImageClassification:
        from three_regime.tasks.images.task import of_study

        return of_study(study, device)

    def opened(self, dataset: str, folder: Path) -> Opened:
        """Raw images."""
        from three_regime.tasks.images.task import opened

        return opened(dataset, folder)


SETTING = ImageSetting()
