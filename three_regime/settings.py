"""Settings: what the studies of one kind of data have of their own, found by that kind.

A setting is a folder of `three_regime.tasks` and an entry of ``SETTINGS``. The folder has two halves: `Setting`, below,
is the half without torch, for configuration, plan, tables and figures; the other is the task that it returns
(`three_regime.tasks.interface.Task`). Whatever depends on the kind of data is asked of these two objects; no other code
may look at the kind itself.

This module is low, and names the settings by their modules, because the configuration asks them and they know the
configuration: an import from here to there would be a circle.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from three_regime.models import families
from three_regime.names import registered
from three_regime.system.files import read_arrays

if TYPE_CHECKING:
    from three_regime.config import DatasetChoice, Measurement, StudyConfig, Training
    from three_regime.study.grid import Study
    from three_regime.tasks.interface import Task, Weights
    from three_regime.tasks.pricing import Pricer, Speed
    from three_regime.tasks.rates import Rates

SETTINGS: dict[str, str] = {
    "images": "three_regime.tasks.images.setting",
    "text": "three_regime.tasks.translation.setting",
}
"""Kind of data, as data sets and families of networks have it → module whose ``SETTING`` is its `Setting`."""


@dataclass(frozen=True)
class Opened:
    """Data in a folder that is no study's, opened to measure single checkpoints on.

    Attributes
    ----------
    counts
        Split (``train``, ``test``) → number of its examples.
    digest
        Computes the digest that a study records of these data.
    task
        Function of a model name, a device (``cpu`` or ``cuda``), and how many training and test examples to use (None:
        all) → the task.
    """

    counts: Mapping[str, int]
    digest: Callable[[], str]
    task: Callable[[str, str, int | None, int | None], Task]


class Setting(ABC):
    """The torch-free half of a setting; what is not abstract suits one that has no settings of its own.

    Attributes
    ----------
    kind
        Key in ``SETTINGS``.
    title, does
        Its name, and the predicate of a sentence about a study or model of it, in messages.
    unit, inputs
        What CKA counts, a key of recipes and results; and the inputs that there are of them, in words.
    dataset_keys, dataset_defaults
        Keys of `dataset` that no other kind has, and defaults where they are not null.
    sizes
        Those that cannot exceed the data set's attribute of the same name.
    cleaned_alike
        Those in which studies that share a prepared file must agree.
    measure_keys
        Keys of `measure` that have a meaning here, but not for every kind.
    training_defaults
        Keys of `dense` and `retrain` that have a meaning here, but not for every kind, with the value that changes
        nothing.
    knob_labels
        Knob → axis label, where it differs from the knob's own.
    prepared_by_name
        Whether the prepared data follow from the data set's name alone, so that one file serves every study.
    refuses_other_data
        Whether a network is meaningless on other data than its own.
    reads_foreign_checkpoints
        Whether checkpoints of other programs can be read.
    packs_advance_together
        Whether the members of a pack may be retrained in lock-step.
    line_columns
        Names that `line_scores` may give.
    averaged_scores
        Those of `score_columns` that tables average over the replicas of a cell.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    does: ClassVar[str]
    unit: ClassVar[str]
    inputs: ClassVar[str]

    dataset_keys: ClassVar[Sequence[str]] = ()
    dataset_defaults: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[Sequence[str]] = ()
    cleaned_alike: ClassVar[Sequence[str]] = ()
    measure_keys: ClassVar[Sequence[str]] = ()
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    knob_labels: ClassVar[Mapping[str, str]] = {}
    prepared_by_name: ClassVar[bool] = True
    refuses_other_data: ClassVar[bool] = False
    reads_foreign_checkpoints: ClassVar[bool] = False
    packs_advance_together: ClassVar[bool] = False
    line_columns: ClassVar[Sequence[str]] = ()
    averaged_scores: ClassVar[Sequence[str]] = ()

    # Configuration

    def takes(self, model: str) -> bool:
        """Whether a model works on this kind of data; ``UserError`` when there is no such model."""
        return families.parse(model).kind == self.kind

    def fill_training(self, training: Training, choice: DatasetChoice) -> Training:
        """`training` with this setting's defaults in place of what nobody has set."""
        return training

    def fill_measure(self, measure: Measurement, choice: DatasetChoice, retrain: Training) -> Measurement:
        """`measure` with what nobody has set lowered to what there is."""
        return measure

    @abstractmethod
    def check(self, study: StudyConfig) -> None:
        """Raise ``ValueError`` where the settings of a study do not agree."""

    # Preparation

    def prepared_file(self, choice: DatasetChoice) -> str:
        """Path of the prepared file below the folder of the data."""
        return f"{choice.name}.safetensors"

    def prepare_recipe(self, choice: DatasetChoice) -> dict[str, Any]:
        """Keys of `dataset` that change the prepared data; JSON types only."""
        return {}

    @abstractmethod
    def prepare(self, choice: DatasetChoice, path: Path, raw: Path, recipe: dict[str, Any]) -> None:
        """Write the prepared file `path`, which carries the fingerprint of `recipe`, from the folder `raw`.

        Raises
        ------
        UserError
            Naming the raw file that is missing or altered.
        """

    def verify(self, path: Path) -> None:
        """Raise ``UserError`` when the content of a prepared file has not the digest that it carries."""
        read_arrays(path)

    # Recipes: all that changes the numbers of a result, beside what every setting has

    def examples(self, choice: DatasetChoice) -> dict[str, Any]:
        """Which examples a stage uses, and how they are treated; what was read is in the data's digest."""
        return {"dataset": choice.name}

    def dense_recipe(self, measure: Measurement) -> dict[str, Any]:
        """How a dense checkpoint is measured, where that is a setting."""
        return {}

    def retrain_recipe(self, measure: Measurement) -> dict[str, Any]:
        """How a retrained network is measured, where that is a setting."""
        return {"last_epochs": measure.last_epochs}

    def lmc_recipe(self, measure: Measurement) -> dict[str, Any]:
        """How the line between two replicas is measured."""
        return {"points": measure.points}

    @abstractmethod
    def cka_recipe(self, measure: Measurement) -> dict[str, Any]:
        """On what CKA is measured: `unit` → how many, and what else there is to say."""

    @abstractmethod
    def line_examples(self, choice: DatasetChoice, measure: Measurement) -> tuple[int | None, int | None]:
        """How many training and test examples the line is measured on; None: all."""

    # Results

    def error(self, result: Mapping[str, Any]) -> float:
        """Error of a checkpoint, a fraction, from its JSON result: what figures show as its test error."""
        return result["test"]["error"]

    def retrained_error(self, result: Mapping[str, Any], last: Sequence[Mapping[str, float]]) -> float:
        """The same of a retrained network, whose last epochs (rows of its history) are `last`: their mean (A)."""
        return fmean(row["test_error"] for row in last)

    def score_columns(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Columns of tables for what else is measured of a checkpoint (`Task.scores`)."""
        return {}

    def words(self, figure: str) -> Sequence[tuple[str, str]]:
        """Phrase → what takes its place in the figure of that name, in the order in which they are tried."""
        return ()

    # Plan

    @abstractmethod
    def pricer(self, study: Study) -> Pricer:
        """What prices a study."""

    @abstractmethod
    def speed(self, rates: Rates, study: Study) -> Speed | None:
        """Rates of a study's network; None where nothing like it has been measured."""

    # The other half

    @abstractmethod
    def task(self, study: Study, device: str) -> Task:
        """The task of a study, with its data on the device (``cpu`` or ``cuda``). Imports torch."""

    def line_scores(self, measure: Measurement, task: Task, networks: Iterable[Weights]) -> dict[str, list[float]]:
        """What else is measured at each point of the line between two replicas."""
        return {}

    @abstractmethod
    def opened(self, dataset: str, folder: Path) -> Opened:
        """A data set in a folder: raw, or prepared where its checkpoints depend on that. Imports torch."""


def setting_of(kind: str) -> Setting:
    """The setting of a kind of data; ``ValueError`` when there is none."""
    return importlib.import_module(SETTINGS[registered(kind, SETTINGS, "kind of data")]).SETTING


def all_settings() -> list[Setting]:
    """Every setting, in the order of ``SETTINGS``."""
    return [setting_of(kind) for kind in SETTINGS]
