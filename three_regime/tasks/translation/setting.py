"""Torch-free half of translation: configuration, recipes, price, texts of figures (`three_regime.settings.Setting`).

The other half is `three_regime.tasks.translation.task`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from three_regime.config.section import lowered
from three_regime.datasets.corpora import MANIFEST
from three_regime.models.sizes import MAX_POSITIONS
from three_regime.settings import Opened, Setting
from three_regime.study.stages import PREPARATION_VERSION, TEXT_VERSION

if TYPE_CHECKING:
    from three_regime.config import DatasetChoice, Measurement, StudyConfig, Training
    from three_regime.study.grid import Study
    from three_regime.tasks.interface import Task, Weights
    from three_regime.tasks.pricing import Speed
    from three_regime.tasks.rates import Rates
    from three_regime.tasks.translation.pricing import TextPricer
    from three_regime.tasks.translation.task import Translation

PREPARED_KEYS = ("train_pairs", "subwords", "max_tokens", "ratio")
"""Keys of `dataset` that change a prepared corpus."""

OWN_TEXT_KEYS = ("files", "languages")
"""The same, for a corpus of the user's own text."""

BLEU_WORDS = (
    ("normalised test error\n(percentage points)", "100 − BLEU,\nabove the best"),
    ("dense test error\n(%)", "dense\n100 − BLEU"),
    ("test error\n(%)", "100 − BLEU"),
    ("percentage points", "BLEU points"),
    ("LMC, training error\n(fraction)", "LMC, training\ntoken error (fraction)"),
    ("LMC, test error\n(fraction)", "LMC, validation\ntoken error (fraction)"),
    ("training error (", "training token error ("),
    ("test error (fraction)", "validation token error (fraction)"),
    ("test error", "100 − BLEU"),
)
"""Phrase → replacement in figures of cells, which show 100 − BLEU on validation as test error.

Words on one line match the same words on two.
"""

TOKEN_WORDS = (
    ("training error (fraction)", "training token error (fraction)"),
    ("test error (fraction)", "validation token error (fraction)"),
    ("test error (%)", "validation token error (%)"),
    ("test NLL (nats)", "validation NLL (nats a token)"),
)
"""The same for training curves and LMC lines, which show token errors."""

BY_TOKEN = ("lmc_lines", "training_curves")


class TranslationSetting(Setting):
    """Translation (paper, section 3.1); the error of a network is 1 − BLEU/100 on the validation pairs."""

    kind = "text"
    title = "translation"
    does = "translates"
    unit = "tokens"
    inputs = "target tokens of the measured pairs"

    sizes = ("train_pairs", "validation_pairs", "test_pairs")
    dataset_keys = (*sizes, "subwords", "max_tokens", "ratio", *OWN_TEXT_KEYS)
    dataset_defaults: ClassVar = {"subwords": 32_000, "max_tokens": 250, "ratio": 2.0}
    cleaned_alike = ("max_tokens", "ratio", "files")
    measure_keys = ("train_pairs", "cka_tokens", "beam", "length_penalty", "bleu_along_line")
    training_defaults: ClassVar = {"accumulate": 1, "dropout": 0.0, "label_smoothing": 0.0, "shuffle_ties": False}
    caption_words: ClassVar = {
        **Setting.caption_words,
        "error": "100 − BLEU on the validation pairs",
        "outputs": "at target tokens of training pairs",
        "line_error": "training token error",
    }
    knob_labels: ClassVar = {"batch_size": "dense batch size (tokens)"}
    accuracy = "BLEU / 100 on the validation pairs"
    claim_units = (
        "test error is 100 − BLEU on the validation\npairs (−1: BLEU is higher by 1), LMC a fraction of training token"
        " error (`lmc_nll` in nats per token)."
    )
    prepared_by_name = False
    refuses_other_data = True
    line_columns = ("bleu",)
    averaged_scores = ("bleu", "bleu_greedy", "bleu_test", "bleu_test_greedy", "chrf", "chrf_test")

    def fill_training(self, training: Training, choice: DatasetChoice) -> Training:
        """Default to fairseq's Adam, and to a batch size that holds the longest sentence."""
        written, filled = training.model_fields_set, {}
        if training.optimiser == "adam" and "epsilon_placement" not in written:
            filled["epsilon_placement"] = "fairseq"
        if "batch_size" not in written:
            filled["batch_size"] = max(training.batch_size, longest(choice))
        return training.model_copy(update=filled)

    def fill_measure(self, measure: Measurement, choice: DatasetChoice, retrain: Training) -> Measurement:
        return lowered(measure, "train_pairs", choice.train_pairs)

    def check(self, study: StudyConfig) -> None:
        if longest(study.dataset) > MAX_POSITIONS:
            raise ValueError(
                f"dataset.max_tokens {study.dataset.max_tokens} exceeds {MAX_POSITIONS - 1}: the model takes"
                f" {MAX_POSITIONS} tokens, the end mark included"
            )
        for key, training in study.batches():
            if training.batch_size < longest(study.dataset):
                raise ValueError(
                    f"{key} {training.batch_size} (tokens) is less than the {longest(study.dataset)} of a sentence of"
                    " dataset.max_tokens with its end mark"
                )
        pairs = study.dataset.train_pairs
        if study.measure.train_pairs > (pairs or math.inf):
            raise ValueError(f"measure.train_pairs {study.measure.train_pairs} exceeds the {pairs} training pairs")

    def prepared_file(self, choice: DatasetChoice) -> str:
        """The manifest of the prepared corpus."""
        return f"{choice.folder}/{MANIFEST}"

    def prepare_recipe(self, choice: DatasetChoice) -> dict[str, Any]:
        own = {key: getattr(choice, key) for key in OWN_TEXT_KEYS}
        return {
            "preparation": PREPARATION_VERSION,
            **{key: getattr(choice, key) for key in PREPARED_KEYS},
            **{key: list(value) if isinstance(value, tuple) else value for key, value in own.items() if value},
        }

    def prepare(self, choice: DatasetChoice, path: Path, raw: Path, recipe: dict[str, Any]) -> None:
        from three_regime.preparation import parallel_text

        parallel_text.prepare(choice, path, raw, recipe)

    def verify(self, path: Path) -> None:
        from three_regime.preparation.prepared_text import verify

        verify(path)

    def examples(self, choice: DatasetChoice) -> dict[str, Any]:
        """Which held-out pairs are used; cleaning and subwords are covered by the digest of the data."""
        held_out = {key: getattr(choice, key) for key in ("validation_pairs", "test_pairs")}
        return {**held_out, **super().examples(choice), "text_version": TEXT_VERSION}

    def dense_recipe(self, measure: Measurement) -> dict[str, Any]:
        return {"measured": {name: getattr(measure, name) for name in ("train_pairs", "beam", "length_penalty")}}

    def retrain_recipe(self, measure: Measurement) -> dict[str, Any]:
        return self.dense_recipe(measure)

    def lmc_recipe(self, measure: Measurement) -> dict[str, Any]:
        bleu = {"bleu": self.dense_recipe(measure)["measured"]} if measure.bleu_along_line else {}
        return {"points": measure.points, "measured_pairs": measure.train_pairs, **bleu}

    def cka_recipe(self, measure: Measurement) -> dict[str, Any]:
        return {self.unit: measure.cka_tokens, "measured_pairs": measure.train_pairs}

    def line_examples(self, choice: DatasetChoice, measure: Measurement) -> tuple[int | None, int | None]:
        return measure.train_pairs, choice.validation_pairs

    def error(self, result: Mapping[str, Any]) -> float:
        return 1 - result["scores"]["validation"]["bleu"] / 100

    def retrained_error(self, result: Mapping[str, Any], last: Sequence[Mapping[str, float]]) -> float:
        """The error at the end: BLEU is measured only once."""
        return self.error(result)

    def score_columns(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """BLEU and chrF."""
        validation, test = result["scores"]["validation"], result["scores"]["test"]
        return {
            "bleu": validation["bleu"],
            "bleu_greedy": validation["greedy_bleu"],
            "bleu_test": test["bleu"],
            "bleu_test_greedy": test["greedy_bleu"],
            "chrf": validation["chrf"],
            "chrf_test": test["chrf"],
            "bleu_signature": validation["signature"],
            "chrf_signature": validation["chrf_signature"],
        }

    def words(self, figure: str) -> Sequence[tuple[str, str]]:
        return TOKEN_WORDS if figure in BY_TOKEN else BLEU_WORDS

    def pricer(self, study: Study) -> TextPricer:
        from three_regime.tasks.translation.pricing import TextPricer

        return TextPricer(study)

    def speed(self, rates: Rates, study: Study) -> Speed | None:
        from three_regime.tasks.translation.pricing import text_speed

        return text_speed(rates, study)

    def task(self, study: Study, device: str) -> Translation:
        from three_regime.tasks.translation.task import of_study

        return of_study(study, device)

    def line_scores(self, measure: Measurement, task: Task, networks: Iterable[Weights]) -> dict[str, list[float]]:
        """Validation BLEU along the line, if `measure.bleu_along_line` is set."""
        if not measure.bleu_along_line:
            return {}
        return {"bleu": [task.bleu(network, "validation") for network in networks]}

    def opened(self, dataset: str, folder: Path) -> Opened:
        """Open a prepared corpus, since a network depends on its subword indices."""
        from three_regime.tasks.translation.task import opened

        return opened(dataset, folder)


def longest(choice: DatasetChoice) -> int:
    """Maximum tokens of a training sentence, including the end-of-sentence token."""
    return choice.max_tokens + 1


SETTING = TranslationSetting()
