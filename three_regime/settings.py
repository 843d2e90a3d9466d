"""Settings: everything that depends on the kind of data (images, text), looked up by that kind.

A setting is a folder of `three_regime.tasks` and an entry of ``SETTINGS``. The folder has two halves: a `Setting`
(below), free of torch, for configuration, plan, tables and figures; and the task that it returns
(`three_regime.tasks.interface.Task`). All code that depends on the kind of data belongs in these two classes; no other
code may test the kind.

``SETTINGS`` names modules instead of importing them because the configuration uses settings and settings use the
configuration: an import would be circular.
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
"""Kind of data (of data sets and model families) → module whose ``SETTING`` is the `Setting`."""


@dataclass(frozen=True)
class Opened:
    """Data outside a study, opened to measure single checkpoints.

    Attributes
    ----------
    counts
        Split (``train``, ``test``) → number of examples.
    digest
        Compute the digest that a study records for these data.
    task
        Make the task from a model name, a device (``cpu`` or ``cuda``), and the numbers of training and test examples
        to use (None: all).
    """

    counts: Mapping[str, int]
    digest: Callable[[], str]
    task: Callable[[str, str, int | None, int | None], Task]


class Setting(ABC):
    """The torch-free half of a setting; defaults suit a setting without special configuration.

    Attributes
    ----------
    kind
        Key in ``SETTINGS``.
    title, does
        Name, and predicate for messages about a study or model ("<study> <does>").
    unit, inputs
        Unit that CKA counts (a key of recipes and results), and the name of the inputs in messages.
    dataset_keys, dataset_defaults
        Keys of `dataset` specific to this kind, and their defaults if not null.
    sizes
        Keys of `dataset` that cannot exceed the data set's attribute of the same name.
    cleaned_alike
        Keys of `dataset` in which studies that share a prepared file must agree.
    measure_keys
        Keys of `measure` that apply to this kind but not to every kind.
    training_defaults
        Keys of `dense` and `retrain` that apply to this kind but not to every kind, with the value that has no effect.
    knob_labels
        Knob → axis label, where it differs from the knob's own.
    caption_words
        Phrases of the captions in ``rules/captions``: ``error``, what is shown as test error; ``measured``, when;
        ``outputs``, of which inputs CKA compares the outputs; ``line_error``, the error along a line; ``statistics``,
        what is done at each of its points before (empty, or after a semicolon).
    accuracy
        What 1 − error is called.
    claim_units
        Units of the differences of claims, for the legend of their page.
    usual_temperatures
        Knob → default temperature; for other knobs the coldest of a study is used.
    prepared_by_name
        Whether the prepared data depend only on the data set's name, so one file serves every study.
    refuses_other_data
        Whether a network is meaningless on any data but its own.
    reads_foreign_checkpoints
        Whether checkpoints of other programs can be imported.
    packs_advance_together
        Whether the members of a pack may be retrained in lock-step.
    line_columns
        Names that `line_scores` may return.
    averaged_scores
        Score columns that tables average over the replicas of a cell.
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
    caption_words: ClassVar[Mapping[str, str]] = {
        "error": "test error",
        "measured": "measured at the end of retraining",
        "outputs": "on the first training data",
        "line_error": "training error",
        "statistics": "",
    }
    accuracy: ClassVar[str] = "test accuracy"
    claim_units: ClassVar[str] = "test errors in points,\nLMC as a fraction of training error (`lmc_nll` in nats)."
    usual_temperatures: ClassVar[Mapping[str, float]] = {}
    prepared_by_name: ClassVar[bool] = True
    refuses_other_data: ClassVar[bool] = False
    reads_foreign_checkpoints: ClassVar[bool] = False
    packs_advance_together: ClassVar[bool] = False
    line_columns: ClassVar[Sequence[str]] = ()
    averaged_scores: ClassVar[Sequence[str]] = ()

    # Configuration

    def takes(self, model: str) -> bool:
        """Whether a model takes this kind of data; raise ``UserError`` if there is no such model."""
        return families.parse(model).kind == self.kind

    def fill_training(self, training: Training, choice: DatasetChoice) -> Training:
        """Fill unset values of `training` with this setting's defaults."""
        return training

    def fill_measure(self, measure: Measurement, choice: DatasetChoice, retrain: Training) -> Measurement:
        """Lower unset values of `measure` to the size of the data."""
        return measure

    def steps(self, training: Training, choice: DatasetChoice) -> int | None:
        """Steps per epoch of a training; None if they are unknown before the data are prepared."""
        return None

    @abstractmethod
    def check(self, study: StudyConfig) -> None:
        """Raise ``ValueError`` if the settings of a study are inconsistent."""

    # Preparation

    def prepared_file(self, choice: DatasetChoice) -> str:
        """Path of the prepared file, relative to the data folder."""
        return f"{choice.name}.safetensors"

    def prepare_recipe(self, choice: DatasetChoice) -> dict[str, Any]:
        """Keys of `dataset` that change the prepared data; JSON types only."""
        return {}

    @abstractmethod
    def prepare(self, choice: DatasetChoice, path: Path, raw: Path, recipe: dict[str, Any]) -> None:
        """Prepare the data in the folder `raw` and write them to `path` with the fingerprint of `recipe`.

        Raises
        ------
        UserError
            When a raw file is missing or altered; the message names it.
        """

    def verify(self, path: Path) -> None:
        """Raise ``UserError`` if the content of a prepared file does not match its digest."""
        read_arrays(path)

    # Recipes: the settings of this kind that change the numbers of a result

    def examples(self, choice: DatasetChoice) -> dict[str, Any]:
        """Which examples a stage uses and how they are processed; their content is in the digest of the data."""
        return {"dataset": choice.name}

    def dense_recipe(self, measure: Measurement) -> dict[str, Any]:
        """Settings that change how a dense checkpoint is measured."""
        return {}

    def retrain_recipe(self, measure: Measurement) -> dict[str, Any]:
        """Settings that change how a retrained network is measured."""
        return {"last_epochs": measure.last_epochs}

    def lmc_recipe(self, measure: Measurement) -> dict[str, Any]:
        """Settings that change how the line between two replicas is measured."""
        return {"points": measure.points}

    @abstractmethod
    def cka_recipe(self, measure: Measurement) -> dict[str, Any]:
        """Settings that change CKA: the number of `unit`, and others."""

    @abstractmethod
    def line_examples(self, choice: DatasetChoice, measure: Measurement) -> tuple[int | None, int | None]:
        """Numbers of training and test examples that the line is measured on; None: all."""

    def cka_examples(self, choice: DatasetChoice, measure: Measurement) -> int | None:
        """Number of training examples that the inputs of CKA are taken from; None: all."""
        return self.line_examples(choice, measure)[0]

    # Results

    def error(self, result: Mapping[str, Any]) -> float:
        """Test error of a checkpoint (a fraction) from its JSON result, as figures show it."""
        return result["test"]["error"]

    def retrained_error(self, result: Mapping[str, Any], last: Sequence[Mapping[str, float]]) -> float:
        """Test error of a retrained network: the mean over `last`, the last rows of its history (authors' code)."""
        return fmean(row["test_error"] for row in last)

    def score_columns(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Table columns for further scores of a checkpoint (`Task.scores`)."""
        return {}

    def words(self, figure: str) -> Sequence[tuple[str, str]]:
        """Pairs (phrase, replacement) for the texts of a figure, in the order they are tried."""
        return ()

    # Plan

    @abstractmethod
    def pricer(self, study: Study) -> Pricer:
        """The pricer of a study."""

    @abstractmethod
    def speed(self, rates: Rates, study: Study) -> Speed | None:
        """Rates for a study's network; None if no similar network has been measured."""

    # The other half

    @abstractmethod
    def task(self, study: Study, device: str) -> Task:
        """The task of a study, with its data on the device (``cpu`` or ``cuda``). Imports torch."""

    def line_scores(self, measure: Measurement, task: Task, networks: Iterable[Weights]) -> dict[str, list[float]]:
        """Further scores at each point of the line between two replicas."""
        return {}

    @abstractmethod
    def opened(self, dataset: str, folder: Path) -> Opened:
        """Open a data set in a folder: raw, or prepared if its checkpoints depend on that. Imports torch."""


def setting_of(kind: str) -> Setting:
    """The setting for a kind of data; raise ``ValueError`` if there is none."""
    return importlib.import_module(SETTINGS[registered(kind, SETTINGS, "kind of data")]).SETTING


def all_settings() -> list[Setting]:
    """Every setting, in the order of ``SETTINGS``."""
    return [setting_of(kind) for kind in SETTINGS]
