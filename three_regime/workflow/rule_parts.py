"""Parts of a study's Snakemake rules: names, files, and hashes of settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from three_regime.config import Config
from three_regime.config.knobs import density_folder
from three_regime.config.measures import MEASURES
from three_regime.config.rule_names import identifier
from three_regime.datasets.registry import DATASETS
from three_regime.preparation.prepare import recipe as prepare_recipe
from three_regime.settings import setting_of
from three_regime.study.fingerprints import fingerprint_of
from three_regime.study.grid import Study
from three_regime.study.load_grids import LoadGrid
from three_regime.study.outputs import GRID_FIGURES, PUBLISHED
from three_regime.study.products import kept_outputs, pack, products_of
from three_regime.study.stages import STAGES


@dataclass(frozen=True)
class Tabled:
    """A study, a grid over another load, or the published figure: each has cells, regimes and figures.

    Attributes
    ----------
    cell_tables
        Names of the tables from which its figures are drawn, besides those of regimes.
    words
        Words of its setting for captions.
    """

    name: str
    folder: str
    cell_tables: tuple[str, ...]
    figures: tuple[str, ...]
    words: dict[str, str]


def tabled(config: Config, studies: Iterable[Study], grids: Iterable[LoadGrid]) -> Iterator[Tabled]:
    """Yield all that has a ``cells.csv``."""
    for study in studies:
        yield Tabled(study.name, str(study.folder), study.cell_tables, study.figures, dict(study.setting.caption_words))
    for grid in grids:
        words = next(iter(grid.studies.values())).setting.caption_words
        yield Tabled(grid.name, str(grid.folder), grid.cell_tables, grid.figures, dict(words))
    if config.published:
        folder = f"{config.results}/{PUBLISHED}"
        yield Tabled(PUBLISHED, folder, ("cells",), GRID_FIGURES, dict(setting_of("images").caption_words))


def rule_name(stage: str, name: str) -> str:
    """Name of a study's rule; rule names must be identifiers."""
    return f"{stage}_{identifier(name)}"


def patterns(study: Study, stage: str) -> dict[str, list[str]]:
    """Output files of a rule: kind (``metrics``, ``weights``) → paths of its pack, with wildcards."""
    if stage == "measures":
        return {"metrics": _measured(study)}
    folders = _folders(study, STAGES[stage].place, one_run=stage == "dense" and study.one_dense_run)
    return {
        "weights" if name.endswith(".safetensors") else "metrics": [f"{folder}/{name}" for folder in folders]
        for name in STAGES[stage].files
    }


def checkpoints(study: Study, stage: str) -> list[str]:
    """Weights of a stage's pack as input of a later stage, with the wildcards of `patterns`."""
    return [f"{folder}/{STAGES[stage].weights}" for folder in _folders(study, STAGES[stage].place)]


def _measured(study: Study) -> list[str]:
    """Files of a pack of additional measures, in the folders of pairs and replicas."""
    seed, temperature = study.seeds_and_temperatures[0]
    densities = study.config.densities[: None if study.job_spans_densities else 1]
    base, names = study.at(seed, temperature), []
    for density in densities:
        folder = density_folder(density)
        shown = folder if study.job_spans_densities else "{density}"
        for product in pack(study, "measures", seed, temperature, density):
            below = product.outputs[0].relative_to(base / folder)
            names.append(f"{study.folder}/seed{{seed}}/{{temperature}}/{shown}/{below}")
    return names


def pruned_for_measures(study: Study) -> list[str]:
    """Pruned networks that additional measures read, with the wildcards of `patterns`; empty if none does."""
    reads = any(MEASURES[name].pruned for name in study.config.measure.also)
    return checkpoints(study, "prune") if reads else []


def rewound(study: Study) -> list[str]:
    """The dense checkpoint to which retraining rewinds, with the seed as wildcard; empty without rewinding."""
    epoch = study.config.retrain.rewind_epoch
    if epoch is None:
        return []
    return [f"{study.folder}/seed{{seed}}/{study.knob.folder(epoch)}/{STAGES['dense'].weights}"]


def _folders(study: Study, place: tuple[str, ...], *, one_run: bool = False) -> list[str]:
    """Folders of a pack; coordinates that the pack does not span are wildcards."""
    densities = study.density_folders if study.job_spans_densities else ["{density}"]
    values = {
        "density": densities,
        "replica": [f"replica{replica}" for replica in study.config.replicas],
        "pair": [f"pair{first}-{second}" for first, second in study.pairs],
    }
    temperatures = [study.knob.folder(value) for value in study.checkpoints] if one_run else ["{temperature}"]
    base = f"{study.folder}/seed{{seed}}"
    return ["/".join([base, *parts]) for parts in itertools.product(temperatures, *(values[part] for part in place))]


def kept_files(study: Study, stage: str) -> list[str]:
    """All files of a stage that the study keeps."""
    return [str(path) for product in products_of(study, [stage]) for path in kept_outputs(study, product)]


def result_patterns(study: Study) -> list[str]:
    """Result files (JSON) of one dense seed and temperature, both as wildcards."""
    place = study.seeds_and_temperatures[0]
    pattern = f"{study.folder}/seed{{seed}}/{{temperature}}"
    return [
        f"{pattern}/{product.outputs[0].relative_to(study.at(*place))}"
        for stage in STAGES
        for product in pack(study, stage, *place)
    ]


def settings_fingerprint(study: Study, stage: str, temperature: float | None) -> str:
    """Hash of the settings and version of a stage; part of a rule's `params`, so a change triggers its jobs.

    Grid lists and streams are excluded: additions are missing outputs, and removals need no job. Settings of data
    preparation are included, because rules do not depend on the times of data files.
    """
    grid = {"density", "streams", "initialisation"}
    recipe = {key: value for key, value in _any_product(study, stage, temperature).items() if key not in grid}
    choice = study.config.dataset
    by_name = choice.setting.prepared_by_name
    data = str(choice.entry.version) if by_name else fingerprint_of(prepare_recipe(choice), {})
    return fingerprint_of(recipe, {"data": data})[:16]


def prepared_by_name() -> list[str]:
    """Data sets prepared by one rule, each into a file of its name."""
    return [name for name, entry in DATASETS.items() if setting_of(entry.kind).prepared_by_name]


def prepared_as_chosen(studies: Sequence[Study]) -> list[Study]:
    """One study for each data set whose preparation depends on settings; studies that agree share it."""
    chosen = [study for study in studies if not study.setting.prepared_by_name]
    return list({study.prepared: study for study in chosen}.values())


def study_fingerprint(study: Study) -> str:
    """Hash of the settings of all stages of a study, on which its tables depend.

    Without it, a job that failed under new settings would be forgotten: Snakemake records the settings of failed jobs
    too, and does not check results whose downstream jobs are up to date.
    """
    return fingerprint_of({
        f"{stage} {temperature:g}": settings_fingerprint(study, stage, temperature)
        for stage in STAGES
        for temperature in study.temperatures
        if stage != "measures" or study.config.measure.also
    }, {})[:16]  # fmt: skip


def _any_product(study: Study, stage: str, temperature: float | None) -> dict[str, Any]:
    """A recipe of the stage; for the single long run of the epochs knob, that of the run instead of a checkpoint."""
    first = study.temperatures[-1] if temperature is None else temperature
    products = pack(study, stage, study.config.dense_seeds[0], first)
    recipe = dict(products[0].recipe) if products else {"version": STAGES[stage].version}
    if stage == "measures":
        alike = [{key: value for key, value in each.recipe.items() if key != "streams"} for each in products]
        recipe = {each["measure"]: each for each in alike}
    if stage == "dense" and study.one_dense_run:
        recipe["training"] = study.config.dense.model_dump(mode="json", exclude={"evaluate_every"})
    return recipe
