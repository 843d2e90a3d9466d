"""`Study`: one temperature × density grid, its pairs and paths.

Paths read as a sentence: ``<results>/<study>/seed1/epochs040/density005/replica2/retrained.safetensors``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from three_regime.config import Config, DatasetChoice, StudyConfig
from three_regime.config.knobs import KNOBS, Knob, density_folder
from three_regime.config.measures import MEASURES
from three_regime.config.rule_names import identifier
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.settings import Setting
from three_regime.study.outputs import CELL_TABLES, GRID_FIGURES, LAYER_FIGURES, RUN_FIGURES


@dataclass(frozen=True)
class Study:
    """A named study with its configuration, folders and regime thresholds (its own, or the default of the run)."""

    name: str
    config: StudyConfig
    root: Path
    data: Path
    thresholds: Thresholds

    @property
    def setting(self) -> Setting:
        """The setting (images, translation) of the study's data."""
        return self.config.setting

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def identifier(self) -> str:
        """The name as a Python identifier, for Snakemake's rule names."""
        return identifier(self.name)

    @property
    def knob(self) -> Knob:
        return KNOBS[self.config.knob]

    @property
    def temperatures(self) -> list[float]:
        """Temperatures from the hottest to the coldest."""
        return self.knob.hot_first(list(self.config.temperatures))

    @property
    def checkpoints(self) -> list[float]:
        """Temperatures of all dense checkpoints, including the epoch to which retraining rewinds."""
        rewound = self.config.retrain.rewind_epoch
        extra = [] if rewound is None or rewound in self.config.temperatures else [float(rewound)]
        return self.knob.hot_first([*self.config.temperatures, *extra])

    @property
    def temperature_folders(self) -> list[str]:
        return [self.knob.folder(value) for value in self.temperatures]

    @property
    def density_folders(self) -> list[str]:
        return [density_folder(value) for value in self.config.densities]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of replicas, the lower first."""
        return list(itertools.combinations(sorted(self.config.replicas), 2))

    @property
    def one_dense_run(self) -> bool:
        """Whether one dense training yields the checkpoints of every temperature (the epochs knob)."""
        return self.knob.setting is None

    @property
    def job_spans_densities(self) -> bool:
        """Whether one job computes every density; otherwise there is one job per density."""
        return "density" in self.config.pack

    def table(self, name: str) -> Path:
        """Path of one of the study's tables, e.g. ``cells``."""
        return self.folder / f"{name}.csv"

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the study's figures, in the order of the method; additional measures have one for each column."""
        layers = LAYER_FIGURES if self.config.prune.allocation != "uniform" else ()
        measured = (column.name for name in self.config.measure.also for column in MEASURES[name].columns)
        tables = self.cell_tables[len(CELL_TABLES) :]
        return (*GRID_FIGURES, *RUN_FIGURES, *layers, *tables, *measured)

    @property
    def cell_tables(self) -> tuple[str, ...]:
        """Names of the tables built from its result files: ``CELL_TABLES``, and those of additional measures."""
        also = (MEASURES[name].table for name in self.config.measure.also)
        return (*CELL_TABLES, *filter(None, also))

    @property
    def seeds_and_temperatures(self) -> list[tuple[int, float]]:
        """Every (dense seed, temperature), from hot to cold; heavy stages have one job for each."""
        return list(itertools.product(self.config.dense_seeds, self.temperatures))

    @property
    def prepared(self) -> Path:
        """Path of the prepared data: the array file of images, or the manifest of text."""
        return prepared_path(self.config.dataset, self.data)

    def at(self, seed: int, temperature: float, density: float | None = None) -> Path:
        """Folder of one dense seed and temperature, or of one of its cells."""
        folder = self.folder / f"seed{seed}" / self.knob.folder(temperature)
        return folder if density is None else folder / density_folder(density)

    def temperature_of(self, folder: str) -> float:
        """The temperature with folder name `folder`.

        Raises
        ------
        UserError
            When the study has no such temperature.
        """
        by_folder = dict(zip(self.temperature_folders, self.temperatures, strict=True))
        if folder not in by_folder:
            raise UserError(f"{self.name} has no temperature '{folder}'; it has {', '.join(by_folder)}")
        return by_folder[folder]

    def density_of(self, folder: str) -> float:
        """The density with folder name `folder` (see `temperature_of`)."""
        by_folder = dict(zip(self.density_folders, self.config.densities, strict=True))
        if folder not in by_folder:
            raise UserError(f"{self.name} has no density '{folder}'; it has {', '.join(by_folder)}")
        return by_folder[folder]


def prepared_path(choice: DatasetChoice, data: Path) -> Path:
    """The prepared file of a data set in the folder `data`: array file of images, manifest of text."""
    return data / choice.setting.prepared_file(choice)


def study_named(config: Config, name: str) -> Study:
    """The study named `name`.

    Raises
    ------
    UserError
        When the configuration defines no such study.
    """
    if name not in config.studies:
        raise UserError(f"no study '{name}'; the configuration defines {', '.join(sorted(config.studies))}")
    own = config.studies[name]
    thresholds = own.regimes.over(config.regimes, own.dataset.name)
    return Study(name, own, Path(config.results), Path(config.data.folder), thresholds)


def wants_gpu(config: Config, study: Study, stage: str) -> bool:
    """Whether a job of the stage uses a GPU if there is one."""
    if (stage == "prune" and not study.config.prune.needs_data) or config.device == "cpu":
        return False
    return config.device == "cuda" or getattr(study.config.resources, stage).gpu > 0


def thresholds_of(config: Config, name: str) -> Thresholds:
    """Regime thresholds of a study, or of a grid over another load; else (the published figure) those of the run."""
    if name in config.load_grids:
        name = config.load_grids[name].studies[0]
    return study_named(config, name).thresholds if name in config.run else config.regimes.thresholds


def family_names(studies: Iterable[Study]) -> dict[str, str]:
    """Study → name of the family whose dense models it shares: those pruned in one way for one data set.

    It is the data set's, with training-set size and label noise, and with the pruning and the start of retraining,
    where studies on it differ in them.
    """
    chosen = {study.name: (study.config.dataset, _pruning(study)) for study in studies}
    variants: dict[str, set[str]] = {}
    ways: dict[str, set[str]] = {}
    for choice, way in chosen.values():
        variants.setdefault(choice.name, set()).add(choice.variant)
        ways.setdefault(choice.name, set()).add(way)
    found = {}
    for name, (choice, way) in chosen.items():
        differing = [(choice.variant, variants), (way, ways)]
        apart = [text for text, known in differing if text and len(known[choice.name]) > 1]
        found[name] = f"{choice.name} ({', '.join(apart)})" if apart else choice.name
    return found


def _pruning(study: Study) -> str:
    """How a study's pruning and start of retraining differ from the paper's; empty if they do not."""
    start = study.config.retrain.model_dump(mode="json", include={"start", "rewind_epoch"}, exclude_defaults=True)
    changed = {**study.config.prune.model_dump(mode="json", exclude_defaults=True), **start}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changed.items())


def without_sam(studies: Iterable[Study]) -> dict[str, str]:
    """Study with the SAM knob → the epochs study that trains, prunes and retrains the same model alike but for SAM."""
    studies = list(studies)
    families = family_names(studies)

    def alike(study: Study) -> tuple[object, ...]:
        config = study.config
        dense = config.dense.model_dump(mode="json", exclude={"sam_rho", "evaluate_every"})
        retrain = config.retrain.model_dump(mode="json", exclude={"evaluate_every"})
        return families[study.name], config.model, dense, retrain

    epochs = [study for study in studies if study.config.knob == "epochs" and not study.config.dense.sam_rho]
    return {
        study.name: plain.name
        for study in studies if study.config.knob == "sam_rho"
        for plain in reversed(epochs) if alike(plain) == alike(study)
    }  # fmt: skip


def planned(config: Config) -> list[Study]:
    """The studies listed in `run`, in that order."""
    return [study_named(config, name) for name in config.run]
