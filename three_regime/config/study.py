"""One study, and what its settings must agree on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from three_regime.config.claims import Claim, check_claims
from three_regime.config.dataset import DatasetChoice
from three_regime.config.knobs import KNOBS, density_folder
from three_regime.config.measuring import MEASURED, Measurement, Pruning
from three_regime.config.regimes import OwnRegimes
from three_regime.config.resources import Resources
from three_regime.config.section import Density, Positive, Section, Seed
from three_regime.config.training import TEXT_ONLY, Training
from three_regime.errors import UserError
from three_regime.models import families
from three_regime.names import registered

Filled = TypeVar("Filled", bound=Section)


class StudyConfig(Section):
    """One temperature x density grid on one data set and model."""

    dataset: DatasetChoice = Field(description="Name of a data set, or a mapping with the keys below.")
    model: str = Field(description="A model name: preresnet-20, preresnet-20x2 (width), vgg-19 (with BatchNorm),"
                       " densenet-40 (both inferred: no public script selects them), transformer-base.")  # fmt: skip
    knob: str = Field(description="What sets the temperature: epochs, batch_size, sam_rho, learning_rate, or dropout"
                      " (translation).")  # fmt: skip
    temperatures: tuple[float, ...] = Field(min_length=1, description="Values of the knob.")
    densities: tuple[Density, ...] = Field(min_length=1, description="Fractions of the prunable weights kept, (0, 1].")
    dense_seeds: tuple[Seed, ...] = Field((1, 2, 3), min_length=1, description="Seeds of the dense trainings (A).")
    replicas: tuple[Seed, ...] = Field(
        (1, 2, 3), min_length=1, description="Retrainings of each pruned network (A; their stream depends on this seed"
        " alone, ours on the dense seed too)."
    )  # fmt: skip
    dense: Training = Field(description="Dense training; the knob overrides one of its settings.")
    retrain: Training = Field(description="Retraining of the pruned networks.")
    prune: Pruning = Pruning()
    measure: Measurement = Field(Measurement(), validate_default=True)
    pack: tuple[Literal["density", "replica"], ...] = Field(
        ("density", "replica"), description="What one job advances together: all densities and replicas of a"
        " temperature, or, with [replica], one cell."
    )  # fmt: skip
    lockstep: Positive | Literal["auto", "off"] = Field(
        "auto", description="Members of a pack computed together, step by step: `off`, the most of them, or `auto`: on"
        " a CPU small networks only, on a GPU if a timing at the start says so (this project's choice)."
    )  # fmt: skip
    keep: Literal["all", "endpoints", "none"] = Field(
        "all", description="Weights that stay once all is measured: all; endpoints (dense and retrained networks; the"
        " pruned ones are made again in seconds); none (results alone) (this project's choice)."
    )  # fmt: skip
    regimes: OwnRegimes = OwnRegimes()
    resources: Resources = Resources()
    claims: tuple[Claim, ...] = Field(
        (), description="Signs stated before the study is run, judged in claims.csv (this project's choice)."
    )

    @field_validator("dataset", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("model")
    @classmethod
    def _parsable(cls, name: str) -> str:
        with _refused():
            return families.parse(name).name

    @field_validator("knob")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, KNOBS, "knob")

    @field_validator("dense", "retrain")
    @classmethod
    def _adam_of_the_task(cls, training: Training, known: ValidationInfo) -> Training:
        """Translation follows fairseq's Adam unless its settings say otherwise."""
        dataset = known.data.get("dataset")
        text = dataset is not None and dataset.entry.kind == "text"
        if not text or training.optimiser != "adam" or "epsilon_placement" in training.model_fields_set:
            return training
        return training.model_copy(update={"epsilon_placement": "fairseq"})

    @field_validator("dense", "retrain")
    @classmethod
    def _batch_that_fits(cls, training: Training, known: ValidationInfo) -> Training:
        """A batch that nobody has set holds the longest sentence, or no more images than there are."""
        dataset = known.data.get("dataset")
        if dataset is None or "batch_size" in training.model_fields_set:
            return training
        if dataset.entry.kind == "text":
            return training.model_copy(update={"batch_size": max(training.batch_size, dataset.longest)})
        return _at_most(training, "batch_size", dataset.images)

    @field_validator("measure")
    @classmethod
    def _measured_that_is_there(cls, measure: Measurement, known: ValidationInfo) -> Measurement:
        """What nobody has set asks for no more than there is (cf. `_check_images`, `_check_text`)."""
        dataset, retrain = (known.data.get(key) for key in ("dataset", "retrain"))
        if dataset is None or retrain is None:
            return measure
        if dataset.entry.kind == "text":
            return _at_most(measure, "train_pairs", dataset.train_pairs)
        if not retrain.steps_on(dataset.images):  # refused below
            return measure
        measure = _at_most(measure, "cka_images", dataset.images)
        return _at_most(measure, "last_epochs", retrain.epochs_on(dataset.images))

    @field_validator("temperatures", "densities", "dense_seeds", "replicas")
    @classmethod
    def _distinct(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"{list(values)} holds a value twice")
        return values

    @field_validator("pack")
    @classmethod
    def _pack(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if "replica" not in values or len(set(values)) != len(values):
            raise ValueError("use [density, replica] or [replica]")
        return values

    @model_validator(mode="after")
    def _consistent(self) -> StudyConfig:
        self._check_grid()
        self._check_kind()
        if self.dataset.entry.kind == "images":
            self._check_images()
        else:
            self._check_text()
        check_claims(self.claims, self.temperatures, self.densities)
        return self

    def _check_grid(self) -> None:
        """Temperatures must suit the knob, and every value of the grid must have a folder of its own."""
        knob = KNOBS[self.knob]
        if knob.setting in TEXT_ONLY and self.dataset.entry.kind == "images":
            raise ValueError(f"knob {knob.name} is for translation only")
        for value in self.temperatures:
            if knob.integer and value != int(value):
                raise ValueError(f"temperatures: {value} must be a whole number for {knob.name}")
            if knob.setting is None and value < 1:
                raise ValueError(f"temperatures: {value} is out of range for {knob.name}; it must be at least 1")
            try:
                self.dense_at(value)
            except ValidationError as error:
                reasons = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
                raise ValueError(f"temperatures: {value} is out of range for {knob.name}: {reasons}") from error
            with _refused("temperatures: "):
                knob.folder(value)
        for density in self.densities:
            with _refused("densities: "):
                density_folder(density)
        if len({density_folder(density) for density in self.densities}) < len(self.densities):
            raise ValueError(f"densities: two of {list(self.densities)} are too close to tell apart in a path")
        if knob.setting is None:
            if self.dense.epochs is None:
                raise ValueError("dense: the epochs knob needs a length in `epochs`")
            if max(self.temperatures) > self.dense.epochs:
                raise ValueError(
                    f"temperatures: {max(self.temperatures):g} lies beyond the dense run of {self.dense.epochs} epochs"
                )

    def _check_kind(self) -> None:
        """Model and measures must fit the data: images or text."""
        kind = self.dataset.entry.kind
        if (spec := families.parse(self.model)).kind != kind:
            raise ValueError(f"model {spec.name} works on {spec.kind}, but {self.dataset.name} holds {kind}")
        for other, keys in MEASURED.items():
            for key in keys if other != kind else ():
                if getattr(self.measure, key) != Measurement.model_fields[key].default:
                    raise ValueError(f"measure.{key} has no meaning for {self.dataset.name}, which holds {kind}")

    def _check_text(self) -> None:
        """What a study of translation must agree on."""
        longest = self.dataset.longest
        for key, training in self._batches():
            if training.batch_size < longest:
                raise ValueError(
                    f"{key} {training.batch_size} (tokens) is less than the {longest} of a sentence of"
                    " dataset.max_tokens with its end mark"
                )
        if self.measure.train_pairs > (self.dataset.train_pairs or math.inf):
            raise ValueError(
                f"measure.train_pairs {self.measure.train_pairs} exceeds the {self.dataset.train_pairs} training pairs"
            )

    def _check_images(self) -> None:
        """What a study of images must agree on."""
        for section, training in (("dense", self.dense), ("retrain", self.retrain)):
            for setting, neutral in TEXT_ONLY.items():
                if getattr(training, setting) != neutral:
                    raise ValueError(f"{section}.{setting} {getattr(training, setting)} is for translation only")
            if training.precision == "bf16":
                raise ValueError(f"{section}.precision: bf16 is for translation only; use tf32 or fp32")
        entry = self.dataset.entry
        images = self.dataset.images
        if (self.measure.train_images or 0) > images:
            raise ValueError("measure.train_images is more than the study's training images")
        for key, training in self._batches():
            if training.drop_last and training.batch_size > images:
                raise ValueError(
                    f"{key} {training.batch_size} exceeds the {images} training images, none would be used"
                )
        with _refused():
            families.check_image_size(self.model, entry.image_size)
        if self.measure.cka_images > images:
            raise ValueError(f"measure.cka_images {self.measure.cka_images} exceeds the {images} training images")
        if self.retrain.epochs_on(images) < self.measure.last_epochs:
            raise ValueError(
                f"measure.last_epochs {self.measure.last_epochs} exceeds the {self.retrain.epochs_on(images)} epochs"
                " of retrain"
            )

    def _batches(self) -> list[tuple[str, Training]]:
        """Every training of the study, beside the key that sets its batch."""
        dense = [("dense.batch_size", self.dense_at(temperature)) for temperature in self.temperatures]
        return [("retrain.batch_size", self.retrain), *dense]

    def dense_at(self, temperature: float) -> Training:
        """Settings of the dense run at a temperature (for the epochs knob: of the one long run).

        Raises
        ------
        pydantic.ValidationError
            When the temperature is no value of the setting that the knob replaces.
        """
        knob = KNOBS[self.knob]
        if knob.setting is None:
            return self.dense
        value = int(temperature) if knob.integer else float(temperature)
        return Training.model_validate({**dict(self.dense), knob.setting: value})


def _at_most(section: Filled, key: str, most: int | None) -> Filled:
    """`section` with a default that exceeds `most` lowered to it; what was written stands, and may be refused."""
    if most is None or key in section.model_fields_set or getattr(section, key) <= most:
        return section
    return section.model_copy(update={key: most})


@contextlib.contextmanager
def _refused(place: str = "") -> Iterator[None]:
    """Report what the library refuses as pydantic expects it, with the key that it concerns."""
    try:
        yield
    except UserError as error:
        raise ValueError(f"{place}{error}") from error
