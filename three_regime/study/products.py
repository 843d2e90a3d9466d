"""Products: the results of a study, their recipes, inputs, files and fingerprints.

A *product* is the result of one member of a pack (a checkpoint, a pruned network, a retrained replica, the LMC or
CKA of a pair) with the files that hold it. It is done when all its files carry its fingerprint: a hash of the
stage's version, the settings that change its numbers, its random streams, and the digests of its input tensors.
Grid lists, packs, resources, device, paths, package versions and times are not part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from three_regime.config import Training
from three_regime.config.measures import MEASURES
from three_regime.config.optimisers import OPTIMISERS
from three_regime.errors import UserError
from three_regime.models.families import FAMILIES, parse
from three_regime.pruning.criteria import CRITERIA
from three_regime.study.fingerprints import _carried, fingerprint_of, input_digest
from three_regime.study.grid import Study
from three_regime.study.results import Result
from three_regime.study.stages import STAGES, discarded

IMPORTED = "imported"
"""``origin`` in the provenance of a checkpoint trained elsewhere (`three_regime.exchange.importing`)."""


LATER_SETTINGS = (
    "schedule", "warmup", "warmup_start", "accumulate", "clip_norm", "dropout", "label_smoothing", "shuffle_ties",
)  # fmt: skip
"""Of every optimiser; each has its own in `OPTIMISERS`."""


GRADIENT_SETTINGS = ("batch_size", "accumulate", "drop_last", "dropout", "label_smoothing", "shuffle_ties")
"""Settings of `retrain` that change the gradients that a criterion uses."""


@dataclass(frozen=True)
class Product:
    """One result: its recipe, input files and output files.

    Attributes
    ----------
    label
        Name in messages, e.g. ``density 5 %, replica 2``.
    recipe
        Everything that changes the numbers except the inputs; JSON types only.
    inputs
        Role → safetensors file whose tensors enter the computation.
    coordinates
        Position in the grid: seed, temperature, density, replica, pair.
    """

    stage: str
    label: str
    recipe: dict[str, Any]
    inputs: dict[str, Path]
    outputs: tuple[Path, ...]
    coordinates: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of recipe and input digests.

        Raises
        ------
        UserError
            When an input is missing or was not written by this project.
        """
        digests = {role: input_digest(path) for role, path in self.inputs.items()}
        return fingerprint_of(self.recipe, digests)

    def stored(self, paths: tuple[Path, ...] | None = None, result: Result | None = None) -> str | None:
        """The fingerprint that all files carry; None when one is missing, damaged or disagrees.

        Weights disagree if the JSON file beside them records another digest. `result` is the content of the JSON file
        if it has been read before.
        """
        found = [
            (result.fingerprint, result.digest) if result and path.suffix == ".json" else _carried(path)
            for path in (paths or self.outputs)
        ]
        fingerprints = {fingerprint for fingerprint, _ in found}
        digests = {digest for _, digest in found if digest is not None}
        return fingerprints.pop() if len(fingerprints) == 1 and len(digests) <= 1 else None

    @property
    def imported_fingerprint(self) -> str:
        """The fingerprint of an imported checkpoint: recipe and place in the grid, without inputs.

        So upstream stages are not needed for it, and a change of the stage's settings makes it stale like any other.
        """
        place = self.outputs[0].parts[-3 - len(STAGES[self.stage].place) : -1]
        return fingerprint_of(self.recipe, {"origin": IMPORTED, "place": "/".join(place)})

    @property
    def done(self) -> bool:
        """Whether all files carry the product's fingerprint (see `fingerprint` for errors)."""
        return self.accepts(self.stored())

    @property
    def done_without_weights(self) -> bool:
        """Whether the JSON file carries the product's fingerprint, and the weights do too or are absent."""
        there = tuple(path for path in self.outputs if path.suffix == ".json" or path.exists())
        return self.accepts(self.stored(there))

    def accepts(self, stored: str | None) -> bool:
        """Whether `stored` is the product's fingerprint, computed or imported (see `fingerprint` for errors)."""
        return stored == self.imported_fingerprint or stored == self.fingerprint


def training_recipe(training: Training, stop_epoch: int | None = None) -> dict[str, Any]:
    """The training settings that change the numbers.

    Parameters
    ----------
    stop_epoch
        Epoch of an early-stop checkpoint: later settings (length, milestones) do not change it, unless the learning
        rate anneals over the whole run.
    """
    names = ("optimiser", "learning_rate", "weight_decay", "batch_size", "gamma", "drop_last", "sam_rho", "precision")
    recipe = {name: getattr(training, name) for name in (*names, *OPTIMISERS[training.optimiser].settings)}
    # Omitted where they have no effect, and at their defaults: a setting that was added later does not make earlier
    # results stale.
    later = [name for name in LATER_SETTINGS if training.warmup or name != "warmup_start"]
    later += OPTIMISERS[training.optimiser].later_settings
    neutral = {name: type(training).model_fields[name].default for name in later}
    recipe |= {name: getattr(training, name) for name in neutral if getattr(training, name) != neutral[name]}
    recipe["unit"] = "epochs" if training.by_epoch else "iterations"
    recipe["length"] = stop_epoch or training.epochs or training.iterations
    recipe["milestones"] = [step for step in training.milestones if step < recipe["length"]]
    if training.anneals and stop_epoch is not None:
        recipe["anneals_over"] = training.epochs
    return json.loads(json.dumps(recipe))


def pack(
    study: Study, stage: str, seed: int, temperature: float | None = None, density: float | None = None
) -> list[Product]:
    """Products of one job, in the order they are computed.

    Parameters
    ----------
    temperature
        None is allowed for the dense stage of the epochs knob, where one run yields every checkpoint.
    density
        Restrict the pack to one density.
    """
    if stage == "dense":
        wanted = study.checkpoints if temperature is None else [temperature]
        return [_dense(study, seed, value) for value in wanted]
    if temperature is None:
        raise UserError(f"stage {stage} needs a temperature")
    densities = study.config.densities if density is None else [density]
    build = {"prune": _prune, "retrain": _retrain, "lmc": _lmc, "cka": _cka, "measures": _measures}[stage]
    return [product for value in densities for product in build(study, seed, temperature, value)]


def products_of(study: Study, stages: Iterable[str] = STAGES) -> Iterator[Product]:
    """Every product of a study's stages, in order of dense seed, temperature and stage."""
    stages = tuple(stages)
    for seed in study.config.dense_seeds:
        if "dense" in stages:  # checkpoints that only retraining needs
            extra = (value for value in study.checkpoints if value not in study.temperatures)
            yield from (_dense(study, seed, value) for value in extra)
        for temperature in study.temperatures:
            for stage in stages:
                yield from pack(study, stage, seed, temperature)


def discarded_stages(study: Study) -> tuple[str, ...]:
    """Stages whose weights are removed once the study has been measured (`stages.discarded`)."""
    return discarded(study.config.keep, prune_needs_data=study.config.prune.needs_data)


def kept_outputs(study: Study, product: Product) -> tuple[Path, ...]:
    """Files of a product that are kept once its study has been measured."""
    goes = product.stage in discarded_stages(study)
    return tuple(path for path in product.outputs if path.suffix == ".json" or not goes)


def job_place(study: Study, product: Product) -> tuple[int, float | None, float | None]:
    """Seed, temperature and density of the job that makes a product; None for those that the job spans."""
    at = product.coordinates
    temperature = None if product.stage == "dense" and study.one_dense_run else at["temperature"]
    return at["seed"], temperature, None if study.job_spans_densities else at.get("density")


def _recipe(stage: str, **settings: Any) -> dict[str, Any]:
    return {"stage": stage, "version": STAGES[stage].version, **settings}


def _model(study: Study) -> dict[str, Any]:
    """The network, with the version of its family if a plugin has increased it."""
    version = FAMILIES[parse(study.config.model).family].version
    return {"model": study.config.model, **({"model_version": version} if version != 1 else {})}


def _outputs(stage: str, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in STAGES[stage].files)


def _examples(study: Study) -> dict[str, Any]:
    """Which examples a stage uses, and how they are processed."""
    return study.setting.examples(study.config.dataset)


def _dense(study: Study, seed: int, temperature: float) -> Product:
    stop = int(temperature) if study.one_dense_run else None
    training = training_recipe(study.config.dense_at(temperature), stop)
    recipe = _recipe(
        "dense",
        **_model(study),
        **_examples(study),
        **study.setting.dense_recipe(study.config.measure),
        training=training,
        streams=["dense", seed],
    )
    folder = study.at(seed, temperature)
    coordinates = {"seed": seed, "temperature": temperature}
    label = f"dense, seed {seed}, {study.knob.name} {temperature:g}"
    return Product("dense", label, recipe, {"data": study.prepared}, _outputs("dense", folder), coordinates)


def _prune(study: Study, seed: int, temperature: float, density: float) -> Iterator[Product]:
    prune = study.config.prune
    criterion = CRITERIA[prune.criterion]
    recipe = _recipe("prune", **_model(study), density=density, allocation=prune.allocation)
    inputs = {"dense": study.at(seed, temperature) / STAGES["dense"].weights}
    # Omitted for the paper's criterion, so earlier results stay valid.
    if prune.criterion != "magnitude":
        recipe |= {"criterion": criterion.name, "criterion_version": criterion.version}
    if criterion.draws:
        recipe["streams"] = ["prune", seed]
    if criterion.needs_gradients:
        training = study.config.retrain
        batches = {name: getattr(training, name) for name in GRADIENT_SETTINGS}
        if training.precision != type(training).model_fields["precision"].default:
            batches["precision"] = training.precision
        recipe |= {**_examples(study), **batches, "batches": prune.gradient_batches, "rounds": prune.rounds}
    if prune.trains:
        between = training_recipe(study.config.between_rounds)
        recipe |= {**_examples(study), "training": between, "rounds": prune.rounds, "streams": ["prune", seed]}
    if prune.needs_data:
        inputs["data"] = study.prepared
    yield Product(
        "prune",
        f"density {density * 100:g} %",
        recipe,
        inputs,
        _outputs("prune", study.at(seed, temperature, density)),
        {"seed": seed, "temperature": temperature, "density": density},
    )


def _retrain(study: Study, seed: int, temperature: float, density: float) -> Iterator[Product]:
    cell = study.at(seed, temperature, density)
    recipe = _recipe(
        "retrain",
        **_model(study),
        **_examples(study),
        training=training_recipe(study.config.retrain),
        **study.setting.retrain_recipe(study.config.measure),
    )
    inputs = {"pruned": cell / STAGES["prune"].weights, "data": study.prepared}
    # Omitted for the paper's start, so earlier results stay valid.
    retrain = study.config.retrain
    if retrain.start != "pruned":
        recipe["start"] = retrain.start
    if retrain.start == "reinitialised":
        recipe["initialisation"] = ["reinitialised", seed]
    if retrain.rewind_epoch is not None:
        inputs["rewound"] = study.at(seed, retrain.rewind_epoch) / STAGES["dense"].weights
    for replica in study.config.replicas:
        yield Product(
            "retrain",
            f"density {density * 100:g} %, replica {replica}",
            {**recipe, "streams": ["retrain", seed, replica]},
            inputs,
            _outputs("retrain", cell / f"replica{replica}"),
            {"seed": seed, "temperature": temperature, "density": density, "replica": replica},
        )


def _pairs(study: Study, stage: str, seed: int, temperature: float, density: float, **settings) -> Iterator[Product]:
    cell = study.at(seed, temperature, density)
    recipe = _recipe(stage, **_model(study), **_examples(study), **settings)
    retrained = _retrained(study, cell)
    data = study.prepared
    for first, second in study.pairs:
        yield Product(
            stage,
            f"density {density * 100:g} %, pair {first}-{second}",
            recipe,
            {"first": retrained[first], "second": retrained[second], "data": data},
            _outputs(stage, cell / f"pair{first}-{second}"),
            {"seed": seed, "temperature": temperature, "density": density, "pair": [first, second]},
        )


def _retrained(study: Study, cell: Path) -> dict[int, Path]:
    """Replica → its retrained network."""
    return {replica: cell / f"replica{replica}" / STAGES["retrain"].weights for replica in study.config.replicas}


def _lmc(study: Study, seed: int, temperature: float, density: float) -> Iterator[Product]:
    settings = study.setting.lmc_recipe(study.config.measure)
    return _pairs(study, "lmc", seed, temperature, density, **settings)


def _cka(study: Study, seed: int, temperature: float, density: float) -> Iterator[Product]:
    settings = study.setting.cka_recipe(study.config.measure)
    return _pairs(study, "cka", seed, temperature, density, **settings)


def _measures(study: Study, seed: int, temperature: float, density: float) -> Iterator[Product]:
    """The additional measures of a study, each with its own file in the folder of the pair or replica."""
    cell = study.at(seed, temperature, density)
    retrained = _retrained(study, cell)
    at = {"seed": seed, "temperature": temperature, "density": density}
    for measure in (MEASURES[name] for name in study.config.measure.also):
        recipe = _recipe(
            "measures",
            measure=measure.name,
            measure_version=measure.version,
            **_model(study),
            **_examples(study),
            **measure.settings(study.config),
        )
        beside = {"data": study.prepared}
        if measure.pruned:
            beside["pruned"] = cell / STAGES["prune"].weights
        for group in measure.groups(study.config.replicas):
            networks = [retrained[replica] for replica in group]
            name = f"{measure.of}{'-'.join(map(str, group))}"
            yield Product(
                "measures",
                f"{measure.name}, density {density * 100:g} %, {measure.of} {'-'.join(map(str, group))}",
                {**recipe, "streams": ["measures", measure.name, seed, *group]},
                {**dict(zip(("first", "second", "third"), networks, strict=False)), **beside},
                (cell / name / f"{measure.name}.json",),
                {**at, measure.of: group[0] if measure.of == "replica" else list(group)},
            )
