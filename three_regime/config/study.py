"""Configuration of one study, and its consistency checks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from three_regime.config.claims import Claim, check_claims
from three_regime.config.dataset import DatasetChoice
from three_regime.config.knobs import KNOBS
from three_regime.config.measures import MEASURES
from three_regime.config.measuring import Measurement, Pruning
from three_regime.config.optimisers import settings_of_others
from three_regime.config.regimes import OwnRegimes
from three_regime.config.resources import Resources
from three_regime.config.section import Density, Positive, Section, Seed, refused
from three_regime.config.training import Retraining, Training
from three_regime.models import families
from three_regime.names import registered
from three_regime.settings import Setting, all_settings


class StudyConfig(Section):
    """One temperature x density grid on one data set and model."""

    dataset: DatasetChoice = Field(description="Name of a data set, or a mapping with these keys.")
    model: str = Field(description="A model name: preresnet-20, preresnet-20x2 (width), vgg-19 (with BatchNorm),"
                       " densenet-40 (both inferred: no public script selects them), transformer-base.")  # fmt: skip
    knob: str = Field(description="Setting that controls the temperature: epochs, batch_size, sam_rho, learning_rate,"
                      " weight_decay, dropout (translation).")  # fmt: skip
    temperatures: tuple[float, ...] = Field(min_length=1, description="Values of the knob.")
    densities: tuple[Density, ...] = Field(min_length=1, description="Fractions of the prunable weights kept, (0, 1].")
    dense_seeds: tuple[Seed, ...] = Field((1, 2, 3), min_length=1, description="Seeds of dense training (A).")
    replicas: tuple[Seed, ...] = Field(
        (1, 2, 3), min_length=1, description="Seeds of the retrainings of each pruned network (A; there the random"
        " stream depends only on this seed, here also on the dense seed)."
    )  # fmt: skip
    dense: Training = Field(description="Dense training; the knob overrides one of its settings.")
    retrain: Retraining = Field(description="Retraining of the pruned networks.")
    prune: Pruning = Pruning()
    measure: Measurement = Field(Measurement(), validate_default=True)
    pack: tuple[Literal["density", "replica"], ...] = Field(
        ("density", "replica"), description="Runs in one job: all densities and replicas of a temperature or, with"
        " [replica], one cell."
    )  # fmt: skip
    lockstep: Positive | Literal["auto", "off"] = Field(
        "auto", description="Members of a pack computed together, step by step: `off`, a maximum number, or `auto`: on"
        " a CPU for small networks that the engine does not compute, on a GPU if a timing at the start shows it is"
        " faster (this project's choice)."
    )  # fmt: skip
    keep: Literal["all", "endpoints", "none"] = Field(
        "all", description="Weights kept once everything is measured: all; endpoints (dense and retrained networks;"
        " pruned ones are recomputed in seconds); none (only results) (this project's choice)."
    )  # fmt: skip
    regimes: OwnRegimes = OwnRegimes()
    resources: Resources = Field(Resources(), validate_default=True)
    claims: tuple[Claim, ...] = Field(
        (), description="Claims stated before the study is run, tested in claims.csv (this project's choice)."
    )

    @field_validator("dataset", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("model")
    @classmethod
    def _parsable(cls, name: str) -> str:
        with refused():
            return families.parse(name).name

    @field_validator("knob")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, KNOBS, "knob")

    @field_validator("dense", "retrain")
    @classmethod
    def _filled(cls, training: Training, known: ValidationInfo) -> Training:
        dataset = known.data.get("dataset")
        return training if dataset is None else dataset.setting.fill_training(training, dataset)

    @field_validator("measure")
    @classmethod
    def _measured_that_is_there(cls, measure: Measurement, known: ValidationInfo) -> Measurement:
        """Lower unset values to the size of the data."""
        dataset, retrain = (known.data.get(key) for key in ("dataset", "retrain"))
        if dataset is None or retrain is None:
            return measure
        return dataset.setting.fill_measure(measure, dataset, retrain)

    @field_validator("resources")
    @classmethod
    def _of_training_rounds(cls, resources: Resources, known: ValidationInfo) -> Resources:
        """Pruning that trains between rounds requests what retraining does, unless stated."""
        prune = known.data.get("prune")
        if prune is None or not prune.trains or "prune" in resources.model_fields_set:
            return resources
        return resources.model_copy(update={"prune": resources.retrain})

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
        self._check_setting()
        self._check_rewinding()
        self.setting.check(self)
        check_claims(
            self.claims,
            self.temperatures,
            self.densities,
            self.measure.also,
            len(self.dense_seeds),
            len(self.replicas),
            self.setting.averaged_scores,
        )
        return self

    def _check_grid(self) -> None:
        """Check that temperatures suit the knob and that every value of the grid has its own folder."""
        knob = KNOBS[self.knob]
        if (other := self._elsewhere.get(knob.setting)) is not None:
            raise ValueError(f"knob {knob.name} is for {other.title} only")
        if knob.setting in settings_of_others(self.dense.optimiser):
            raise ValueError(
                f"knob: {knob.name} changes nothing: the optimiser {self.dense.optimiser} does not use {knob.setting}"
            )
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
            with refused("temperatures: "):
                knob.folder(value)
        if len({knob.folder(value) for value in self.temperatures}) < len(self.temperatures):
            raise ValueError(f"temperatures: two of {list(self.temperatures)} are too close to tell apart in a path")
        if len({round(density, 6) for density in self.densities}) < len(self.densities):
            raise ValueError(f"densities: two of {list(self.densities)} differ by less than 0.0001 %")
        if knob.setting is None:
            if self.dense.epochs is None:
                raise ValueError("dense: the epochs knob needs a length in `epochs`")
            if max(self.temperatures) > self.dense.epochs:
                raise ValueError(
                    f"temperatures: {max(self.temperatures):g} is beyond the dense run of {self.dense.epochs} epochs"
                )

    def _check_rewinding(self) -> None:
        """The dense run must pass the checkpoint to rewind to, and the study must keep it."""
        epoch = self.retrain.rewind_epoch
        if epoch is None:
            return
        if KNOBS[self.knob].setting is not None:
            raise ValueError(
                f"retrain.start: rewound needs the epochs knob, where one dense run passes epoch {epoch}; with"
                f" {self.knob} each temperature has its own run"
            )
        if epoch > min(self.temperatures):
            raise ValueError(
                f"retrain.rewind_epoch: {epoch} is after the hottest model, which stops at {min(self.temperatures):g}"
            )
        if self.keep == "none":
            raise ValueError("keep: none discards the checkpoint to which retraining rewinds; use endpoints")

    def _check_setting(self) -> None:
        """Check that model, measures and trainings suit the kind of data."""
        kind = self.setting.kind
        if not self.setting.takes(self.model):
            spec = families.parse(self.model)
            raise ValueError(f"model {spec.name} takes {spec.kind}, but {self.dataset.name} holds {kind}")
        for key in (key for each in all_settings() for key in each.measure_keys):
            if key not in self.setting.measure_keys and (
                getattr(self.measure, key) != Measurement.model_fields[key].default
            ):
                raise ValueError(f"measure.{key} does not apply to {self.dataset.name}, which holds {kind}")
        for measure in (MEASURES[name] for name in self.measure.also):
            with refused("measure.also: "):
                measure.check_function()
            if measure.kinds is not None and kind not in measure.kinds:
                raise ValueError(f"measure.also: {measure.name} applies only to {', '.join(measure.kinds)}")
            if measure.of == "triple" and len(self.replicas) < 3:
                raise ValueError(f"measure.also: {measure.name} needs three replicas, not {len(self.replicas)}")
        retrain, steps = self.retrain, self._steps_of_retraining
        if self.prune.trains and retrain.anneals and retrain.warmup and not retrain.by_epoch and steps is None:
            raise ValueError(
                "prune.epochs: how many iterations they are is unknown before the data are prepared, and so is their"
                f" share of retrain.warmup {retrain.warmup}; give the length of retrain in `epochs`"
            )
        for section, training in (("dense", self.dense), ("retrain", self.retrain)):
            for key, other in self._elsewhere.items():
                if getattr(training, key) != other.training_defaults[key]:
                    raise ValueError(f"{section}.{key} {getattr(training, key)} is for {other.title} only")

    @property
    def between_rounds(self) -> Training:
        """Settings of the training between two rounds of pruning (`prune.epochs`)."""
        epochs, retrain = self.prune.epochs, self.retrain
        length = retrain.epochs or retrain.iterations
        milestones = sorted({max(1, round(epochs * step / length)) for step in retrain.milestones})
        warmup = retrain.warmup
        if warmup and retrain.anneals and retrain.by_epoch:
            warmup = round(warmup * epochs / length)
        elif warmup and retrain.anneals:  # rounded down, so it ends before the run does
            warmup = warmup * epochs * self._steps_of_retraining // length
        changed = {
            "epochs": epochs, "iterations": None, "milestones": milestones, "evaluate_every": epochs, "warmup": warmup,
        }  # fmt: skip
        return Training.model_validate({**{name: getattr(retrain, name) for name in Training.model_fields}, **changed})

    @property
    def _steps_of_retraining(self) -> int | None:
        """Steps per epoch of retraining; None if they are unknown before the data are prepared."""
        return self.setting.steps(self.retrain, self.dataset)

    @property
    def setting(self) -> Setting:
        """The setting (images, translation) of the study's data."""
        return self.dataset.setting

    @property
    def _elsewhere(self) -> dict[str, Setting]:
        """Keys of `Training` that do not apply here → a setting to which they apply."""
        own = self.setting.training_defaults
        return {key: each for each in all_settings() for key in each.training_defaults if key not in own}

    def batches(self) -> list[tuple[str, Training]]:
        """Every training of the study, with the key of its batch size."""
        dense = [("dense.batch_size", self.dense_at(temperature)) for temperature in self.temperatures]
        return [("retrain.batch_size", self.retrain), *dense]

    def dense_at(self, temperature: float) -> Training:
        """Settings of the dense run at a temperature (for the epochs knob: of the single long run).

        Raises
        ------
        pydantic.ValidationError
            When the temperature is not a valid value of the setting that the knob replaces.
        """
        knob = KNOBS[self.knob]
        if knob.setting is None:
            return self.dense
        value = int(temperature) if knob.integer else float(temperature)
        return Training.model_validate({**dict(self.dense), knob.setting: value})
