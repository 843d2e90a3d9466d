"""The configuration: its keys, ranges and defaults, and the one loader of Snakefile and command line.

The models below are the schema: ``schemas/config.schema.json`` is generated from them (``python -m three_regime
schema``) and a test keeps the two equal. Every default is the paper's protocol unless its description says "this
project's choice". Sources: R = public reproducibility record, A = authors' code at commit b38c972.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from three_regime import datasets, models, stated
from three_regime.errors import UserError
from three_regime.knobs import KNOBS, density_folder
from three_regime.optimisers import OPTIMISERS
from three_regime.section import Section

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Density = Annotated[float, Field(gt=0, le=1)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(lambda text: str(Path(text)))]  # no trailing slash


MEASURED = {
    "images": ("batch_size", "train_images", "cka_images", "last_epochs"),
    "text": ("train_pairs", "cka_tokens", "beam", "length_penalty", "bleu_along_line"),
}
"""Keys of `measure` that one kind of data has and the other has not."""

TEXT_ONLY = {"accumulate": 1, "dropout": 0.0, "label_smoothing": 0.0}
"""Settings of a training that images do not have, with the value that changes nothing."""


IMAGE_KEYS = ("train_images", "test_images")
TEXT_KEYS = ("train_pairs", "validation_pairs", "test_pairs", "subwords", "max_tokens", "ratio")
TEXT_DEFAULTS = {"subwords": 32_000, "max_tokens": 250, "ratio": 2.0}


class DatasetChoice(Section):
    """Which images or which pairs of sentences, and how many of them."""

    name: str = Field(description="A registered data set (`python -m three_regime list`).")
    train_images: Positive | None = Field(
        None, description="Use the first N training images in file order; null uses all (the paper)."
    )
    test_images: Positive | None = Field(
        None, description="Use the first N test images in file order; null uses all (the paper)."
    )
    train_pairs: Positive | None = Field(
        None, description="Text: use the first N training pairs that pass cleaning; null uses all (R: N from 160,000 to"
        " 2,560,000 in the group's earlier code)."
    )  # fmt: skip
    validation_pairs: Positive | None = Field(
        None, description="Text: measure on the first N validation pairs; null measures on all (the paper)."
    )
    test_pairs: Positive | None = Field(
        None, description="Text: measure on the first N test pairs; null measures on all (the paper)."
    )
    subwords: Annotated[int, Field(ge=8, le=65_000)] | None = Field(
        None, description="Text: size of the joint subword vocabulary, special symbols included; by default 32,000"
        " (this project's choice)."
    )  # fmt: skip
    max_tokens: Positive | None = Field(
        None, description="Text: training pairs with a longer side, in subwords, are left out; by default 250 (this"
        " project's choice)."
    )  # fmt: skip
    ratio: Annotated[float, Field(gt=1)] | None = Field(
        None, description="Text: training pairs are left out when one side has more than so many times the subwords of"
        " the other; by default 2 (this project's choice)."
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _text_defaults(cls, value: Any) -> Any:
        entry = datasets.DATASETS.get(str(value.get("name"))) if isinstance(value, Mapping) else None
        if entry is None or entry.kind != "text":
            return value
        return {**TEXT_DEFAULTS, **{key: given for key, given in value.items() if given is not None}}

    @field_validator("name")
    @classmethod
    def _registered(cls, name: str) -> str:
        return registered(name, datasets.DATASETS, "data set")

    @model_validator(mode="after")
    def _enough(self) -> DatasetChoice:
        for key in TEXT_KEYS if self.entry.kind == "images" else IMAGE_KEYS:
            if getattr(self, key) is not None:
                raise ValueError(f"{key} has no meaning for {self.name}, which holds {self.entry.kind}")
        sizes = IMAGE_KEYS if self.entry.kind == "images" else ("train_pairs", "validation_pairs", "test_pairs")
        for key in sizes:
            wanted, available = getattr(self, key), getattr(self.entry, key)
            if wanted is not None and available is not None and wanted > available:
                raise ValueError(f"{key} is {wanted}, but {self.name} has {available}")
        return self

    @property
    def entry(self) -> datasets.ImageDataset | datasets.ParallelCorpus:
        """The registered data set."""
        return datasets.DATASETS[self.name]

    @property
    def folder(self) -> str:
        """Name of the folder of a prepared corpus: its name, training pairs and subwords."""
        return f"{self.name}-{self.train_pairs or 'all'}-{self.subwords}"


class Training(Section):
    """How one network is trained, dense or sparse."""

    optimiser: str = Field("sgd", description="`sgd` with momentum (R, A) or `adam` (robustness; this project's).")
    learning_rate: float = Field(0.1, gt=0, description="Initial learning rate (R, A: 0.1; Adam: 1e-3).")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD (R, A).")
    weight_decay: float = Field(1e-4, ge=0, description="L2 coefficient on every parameter (R, A).")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's decay rates (Adam's defaults).")
    epsilon: float = Field(1e-8, gt=0, description="Adam's denominator offset (Adam's default).")
    batch_size: Positive = Field(64, description="Images a step (R, A); text: largest number of tokens, padding"
                                 " included, on the longer side of a batch (fairseq's max_tokens).")  # fmt: skip
    epochs: Positive | None = Field(None, description="Length of the run in epochs (R, A: 160). Or give `iterations`.")
    iterations: Positive | None = Field(None, description="Length of the run in steps (A: 62,400 for the batch knob).")
    milestones: tuple[Positive, ...] = Field(
        (), description="The rate is multiplied by `gamma` after this many completed epochs (or iterations, where"
        " the length is in iterations) (R, A: 80 and 120 of 160)."
    )  # fmt: skip
    gamma: float = Field(0.1, gt=0, le=1, description="Factor at each milestone (R, A).")
    drop_last: bool = Field(False, description="Drop the last partial batch of an epoch (A: kept, but not for the"
                            " batch-size knob).")  # fmt: skip
    sam_rho: float = Field(0.0, ge=0, description="Radius of sharpness-aware minimisation; 0 is plain training (A).")
    schedule: Literal["step", "inverse_sqrt"] = Field(
        "step", description="Learning rate: `step` falls at the milestones (R, A); `inverse_sqrt` rises over `warmup`"
        " iterations and then falls with their inverse square root (translation)."
    )  # fmt: skip
    warmup: int = Field(0, ge=0, description="Iterations of rising rate, `inverse_sqrt` only (translation: 4,000).")
    warmup_start: float = Field(1e-7, ge=0, description="Rate of the first step of the warm-up (fairseq's custom).")
    accumulate: Positive = Field(1, description="Batches whose gradients make one step (translation only: BatchNorm"
                                 " sees one batch at a time).")  # fmt: skip
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of a step's gradient; null does not clip.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout rate (translation only; 0.1 there).")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Probability mass spread over the vocabulary"
                                   " (translation only; 0.1 there).")  # fmt: skip
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "tf32", description="On a GPU: `tf32` in convolutions (A: cuDNN's default), `bf16` autocast (translation), or"
        " `fp32`. No effect on a CPU; measuring is always fp32."
    )  # fmt: skip
    evaluate_every: Positive = Field(1, description="Epochs between test evaluations; checkpoints and the last"
                                     " `measure.last_epochs` are always evaluated.")  # fmt: skip

    @field_validator("optimiser")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, OPTIMISERS, "optimiser")

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give the length either as `epochs` or as `iterations`, and not both")
        length = self.epochs or self.iterations
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must increase")
        if self.milestones and self.milestones[-1] > length:
            raise ValueError(f"milestone {self.milestones[-1]} lies beyond the end of the run ({length})")
        if self.schedule == "inverse_sqrt" and (self.warmup < 1 or self.milestones):
            raise ValueError("schedule inverse_sqrt needs `warmup` of at least 1 and no milestones")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must lie in [0, 1)")
        return self

    @property
    def by_epoch(self) -> bool:
        """Whether length and milestones count epochs (else iterations)."""
        return self.epochs is not None

    def epochs_on(self, images: int) -> int:
        """Epochs of the run on so many training images, the last perhaps begun only."""
        steps = images // self.batch_size if self.drop_last else math.ceil(images / self.batch_size)
        return self.epochs or math.ceil(self.iterations / steps)


class Pruning(Section):
    """One-shot magnitude pruning of the dense checkpoint."""

    allocation: Literal["uniform", "global"] = Field(
        "uniform", description="Same density in every prunable layer (A), or one threshold for all (robustness)."
    )


class Measurement(Section):
    """LMC, CKA, errors and BLEU. Keys for images have no meaning for text, and the other way round."""

    points: int = Field(11, ge=3, description="Points on the line between two replicas, ends included (A).")
    batch_size: Positive = Field(64, description="Batch of the BatchNorm re-estimation along the line (A).")
    train_images: Positive | None = Field(
        None, description="Images of the re-estimation and the training error; null is the whole training set (A)."
    )
    cka_images: int = Field(6464, ge=2, description="Training images of CKA, from the first (A: 101 x 64).")
    last_epochs: Positive = Field(5, description="The test error is the mean over the last epochs (A).")
    train_pairs: Positive = Field(
        2000, description="Text: training error, LMC and CKA are measured on the first N training pairs (this project's"
        " choice)."
    )  # fmt: skip
    cka_tokens: int = Field(
        2048, ge=2, description="Text: target tokens of CKA, from the first training pair (this project's choice)."
    )
    beam: Positive = Field(4, description="Text: beam of the translations whose BLEU counts (Vaswani et al. 2017).")
    length_penalty: float = Field(0.6, ge=0, description="Text: exponent of the length by which beam search divides a"
                                  " hypothesis's log-probability (Vaswani et al. 2017: 0.6).")  # fmt: skip
    bleu_along_line: bool = Field(False, description="Text: validation BLEU at every point between two replicas too.")


class StageResources(Section):
    """What one job of a stage asks for."""

    gpu: int = Field(1, ge=0, description="Graphics processors; where there is none the job says that it runs on CPU.")
    mem_mb: Positive = Field(8000, description="Memory in MB of a first attempt (this project's choice).")
    runtime: Positive = Field(
        240, description="Minutes of a first attempt where no rates were measured (this project's choice)."
    )


class Resources(Section):
    """Resources of each heavy stage."""

    dense: StageResources = StageResources(runtime=240)
    prune: StageResources = StageResources(gpu=0, mem_mb=2000, runtime=20)
    retrain: StageResources = StageResources(runtime=1440)
    evaluate: StageResources = StageResources(runtime=60)
    lmc: StageResources = StageResources(runtime=240)
    cka: StageResources = StageResources(runtime=60)


class StudyConfig(Section):
    """One temperature x density grid on one data set and model."""

    dataset: DatasetChoice = Field(description="Name of a data set, or a mapping with the keys below.")
    model: str = Field(description="A model name: preresnet-20, preresnet-20x2 (width), vgg-19, densenet-40,"
                       " transformer-base, ...")  # fmt: skip
    knob: str = Field(description="What sets the temperature: epochs, batch_size, sam_rho, learning_rate, or dropout"
                      " (translation).")  # fmt: skip
    temperatures: tuple[float, ...] = Field(min_length=1, description="Values of the knob.")
    densities: tuple[Density, ...] = Field(min_length=1, description="Fractions of the prunable weights kept, (0, 1].")
    dense_seeds: tuple[Seed, ...] = Field((1, 2, 3), min_length=1, description="Seeds of the dense trainings (A).")
    replicas: tuple[Seed, ...] = Field((1, 2, 3), min_length=1, description="Retrainings of each pruned network (A).")
    dense: Training = Field(description="Dense training; the knob overrides one of its settings.")
    retrain: Training = Field(description="Retraining of the pruned networks.")
    prune: Pruning = Pruning()
    measure: Measurement = Measurement()
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
    resources: Resources = Resources()
    claims: tuple[stated.Claim, ...] = Field(
        (), description="Signs stated before the study is run, judged in claims.csv (this project's choice)."
    )

    @field_validator("dataset", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("model")
    @classmethod
    def _parsable(cls, name: str) -> str:
        try:
            return models.parse(name).name
        except UserError as error:
            raise ValueError(str(error)) from error

    @field_validator("knob")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, KNOBS, "knob")

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
        knob = KNOBS[self.knob]
        if knob.setting in TEXT_ONLY and self.dataset.entry.kind == "images":
            raise ValueError(f"knob {knob.name} is for translation only")
        for value in self.temperatures:
            if not math.isfinite(value) or value < 0 or (value == 0 and knob.setting not in ("sam_rho", "dropout")):
                raise ValueError(f"temperatures: {value} is out of range for {knob.name}")
            if knob.integer and value != int(value):
                raise ValueError(f"temperatures: {value} must be a whole number for {knob.name}")
            folder_of(knob.folder, value, "temperatures")
        for density in self.densities:
            folder_of(density_folder, density, "densities")
        if len({density_folder(density) for density in self.densities}) < len(self.densities):
            raise ValueError(f"densities: two of {list(self.densities)} are too close to tell apart in a path")
        if knob.setting is None:
            if self.dense.epochs is None:
                raise ValueError("dense: the epochs knob needs a length in `epochs`")
            if max(self.temperatures) > self.dense.epochs:
                raise ValueError(
                    f"temperatures: {max(self.temperatures):g} lies beyond the dense run of {self.dense.epochs} epochs"
                )
        self._check_kind()
        if self.dataset.entry.kind == "images":
            self._check_images()
        else:
            self._check_text()
        stated.check(self.claims, self.temperatures, self.densities)
        return self

    def _check_kind(self) -> None:
        """Model and measures must fit the data: images or text."""
        kind = self.dataset.entry.kind
        if (spec := models.parse(self.model)).kind != kind:
            raise ValueError(f"model {spec.name} works on {spec.kind}, but {self.dataset.name} holds {kind}")
        for other, keys in MEASURED.items():
            for key in keys if other != kind else ():
                if getattr(self.measure, key) != Measurement.model_fields[key].default:
                    raise ValueError(f"measure.{key} has no meaning for {self.dataset.name}, which holds {kind}")

    def _check_text(self) -> None:
        """What a study of translation must agree on."""
        if self.knob == "dropout" and max(self.temperatures) >= 1:
            raise ValueError(f"temperatures: {max(self.temperatures)} is out of range for dropout; it must be below 1")
        longest = self.dataset.max_tokens + 1
        batches = [("retrain.batch_size", self.retrain)]
        batches += [("dense.batch_size", self.dense_at(temperature)) for temperature in self.temperatures]
        for key, training in batches:
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
        if (self.measure.train_images or 0) > (self.dataset.train_images or entry.train_images):
            raise ValueError("measure.train_images is more than the study's training images")
        largest = self.dataset.train_images or entry.train_images
        batches = [("retrain.batch_size", self.retrain)]
        batches += [("dense.batch_size", self.dense_at(temperature)) for temperature in self.temperatures]
        for key, training in batches:
            if training.drop_last and training.batch_size > largest:
                raise ValueError(
                    f"{key} {training.batch_size} exceeds the {largest} training images, none would be used"
                )
        try:
            models.check_image_size(self.model, entry.image_size)
        except UserError as error:
            raise ValueError(str(error)) from error
        if self.measure.cka_images > largest:
            raise ValueError(f"measure.cka_images {self.measure.cka_images} exceeds the {largest} training images")
        if self.retrain.epochs_on(largest) < self.measure.last_epochs:
            raise ValueError(
                f"measure.last_epochs {self.measure.last_epochs} exceeds the {self.retrain.epochs_on(largest)} epochs"
                " of retrain"
            )

    def dense_at(self, temperature: float) -> Training:
        """Settings of the dense run at a temperature (for the epochs knob: of the one long run)."""
        knob = KNOBS[self.knob]
        if knob.setting is None:
            return self.dense
        value = int(temperature) if knob.integer else float(temperature)
        return self.dense.model_copy(update={knob.setting: value})


class Data(Section):
    """Where data sets are kept and looked for."""

    folder: Folder = Field("data", description="Downloads (`raw/`) and prepared arrays.")
    offline: tuple[str, ...] = Field(("offline",), description="Folders looked at before the network is used.")
    mirrors: dict[str, tuple[str, ...]] = Field({}, description="Extra addresses tried first: {source: [url, ...]}.")


class Regimes(Section):
    """Where one regime ends and the next begins."""

    lmc: float = Field(-0.12, lt=0, description="Regime I is LMC below this. Default: middle of the plateau fitted on"
                       " the published Figure 2 (DESIGN section 6).")  # fmt: skip
    cka: float = Field(
        0.99, gt=0, le=1, description="Among connected cells, II-B is softmax CKA above this (same fit)."
    )


class Config(Section):
    """The whole configuration."""

    results: Folder = Field("results", description="Folder of all that is made; presets: results/<preset>.")
    run: tuple[str, ...] = Field(description="Names of the studies that are planned; [] with `published` alone.")
    published: bool = Field(True, description="Redraw the published Figure 2, and score obtained studies against it.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes a GPU where there is one.")
    require_gpu: bool = Field(
        False,
        description="What asks for a GPU (`resources`) and finds none refuses, instead of using the CPU.",
    )
    gpu_slots: Positive = Field(1, description="Jobs that share one local GPU; a batch system's choice stands.")
    max_runtime: Positive = Field(
        2880, description="No job asks for more minutes: one that is cut off continues (this project's choice)."
    )
    threads: Positive = Field(2, description="CPU threads of each torch job. Part of bit-identity, so a setting.")
    kernels: Literal["auto", "plain"] = Field(
        "auto", description="`auto` computes networks on a CPU with compiled kernels where there is a C compiler;"
        " `plain` with torch alone. They round differently; recorded, and kept within a run (this project's choice)."
    )  # fmt: skip
    state_every_s: float = Field(60, gt=0, description="Seconds between saved training states.")
    data: Data = Data()
    regimes: Regimes = Regimes()
    studies: dict[Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")], StudyConfig] = Field(
        description="Study name -> definition."
    )

    @model_validator(mode="after")
    def _defined(self) -> Config:
        for name in self.run:
            try:
                registered(name, self.studies, "study")
            except ValueError as error:
                raise ValueError(f"run: {error}") from error
        if not self.run and not self.published:
            raise ValueError("run: name at least one study, or set `published: true`")
        if len(set(self.run)) != len(self.run):
            raise ValueError(f"run: {list(self.run)} holds a study twice")
        if self.require_gpu and self.device == "cpu":
            raise ValueError("require_gpu is true, but device is cpu; use auto or cuda")
        self._check_shared_text()
        return self

    def _check_shared_text(self) -> None:
        """Studies that share the folder of a prepared corpus must clean it alike."""
        first: dict[str, tuple[str, DatasetChoice]] = {}
        for name in self.run:
            choice = self.studies[name].dataset
            if choice.entry.kind != "text":
                continue
            other, theirs = first.setdefault(choice.folder, (name, choice))
            for key in ("max_tokens", "ratio"):
                if getattr(choice, key) != getattr(theirs, key):
                    raise ValueError(
                        f"studies.{name}.dataset.{key} is {getattr(choice, key):g} and studies.{other}.dataset.{key} is"
                        f" {getattr(theirs, key):g}: both use {choice.folder}, which is cleaned in one way"
                    )


def registered(name: str, registry: Iterable[str], kind: str) -> str:
    """Return `name` when it is in `registry`, else raise ``ValueError`` with the nearest and all allowed names."""
    names = sorted(registry)
    if name in names:
        return name
    raise ValueError(f"unknown {kind} '{name}'{nearest(name, names)}; allowed: {', '.join(names)}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest allowed name, or an empty string."""
    match = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""


def folder_of(name: Any, value: float, key: str) -> None:
    """Check that a grid value can be written in a path."""
    try:
        name(value)
    except UserError as error:
        raise ValueError(f"{key}: {error}") from error


def resolve(mapping: Mapping[str, Any]) -> Config:
    """Validate a merged mapping and fill in its defaults.

    Raises
    ------
    UserError
        One line for each problem: the key's place, what is wrong, and the nearest valid key or value.
    """
    try:
        return Config.model_validate(mapping)
    except ValidationError as error:
        raise UserError("\n".join(_sentence(problem) for problem in error.errors())) from error


def load(paths: Iterable[Path]) -> Config:
    """Read YAML files, later ones over earlier ones as Snakemake does, and `resolve` the result.

    Mappings are merged key by key, everything else is replaced.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            overlay = yaml.safe_load(Path(path).read_bytes()) or {}
        except FileNotFoundError as error:
            raise UserError(f"config file {path} does not exist") from error
        except yaml.YAMLError as error:
            raise UserError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(overlay, dict):
            raise UserError(f"config file {path} must hold a mapping of keys")
        merged = merge(merged, overlay)
    return resolve(merged)


def schema_text() -> str:
    """The JSON schema (draft 2020-12) of the configuration, as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`overlay` over `base`: mappings merged recursively, other values replaced, as Snakemake's `update_config` does.

    Like there, an empty mapping replaces nothing.
    """
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key, {})
        if not isinstance(value, Mapping):
            merged[key] = value
        elif value or key not in merged:
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
    return merged


def _sentence(problem: Mapping[str, Any]) -> str:
    place = ".".join(["config", *(str(part) for part in problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key{nearest(str(problem['loc'][-1]), _keys_at(problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{place}: this key is missing"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = f" (it is {value!r})" if problem["type"] != "value_error" and not isinstance(value, Mapping) else ""
    return f"{place}: {message}{shown}"


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the section at `place`, a path through the models."""
    section: Any = Config
    for part in place:
        if section is Config and part == "studies":
            return _keys_below_study(place[2:]) if len(place) > 1 else []
        section = section.model_fields[str(part)].annotation
    return list(section.model_fields)


def _keys_below_study(place: tuple[int | str, ...]) -> list[str]:
    section: Any = StudyConfig
    for part in place:
        section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
    return list(section.model_fields)
