"""Pricing of translation studies: tokens and decoded sentences at measured rates.

Hours are unknown on a device where no Transformer has been measured.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property

from three_regime.config import Training
from three_regime.datasets.aligned_text import count_lines
from three_regime.datasets.corpora import ParallelCorpus
from three_regime.errors import UserError
from three_regime.models.sizes import Size, text_size
from three_regime.study.grid import Study
from three_regime.system.files import read_arrays, read_metadata
from three_regime.tasks.pricing import Pricer, Speed, Work
from three_regime.tasks.rates import Rates

TOKENS_A_PAIR = 28
"""Target tokens per training pair of unprepared text, and per sentence in decoding rates: WMT14 with 32,000 subwords,
order of magnitude only."""

_BYTES_A_TOKEN, _BYTES_A_PAIR = 2, 12
"""Bytes of fairseq's binary files and of their index, per language."""

_BYTES_A_HYPOTHESIS_TOKEN = 2.0
"""Bytes of a token of a stored translation: compressed, in base64 (measured on Multi30k; order of magnitude)."""


def text_speed(rates: Rates, study: Study) -> Speed | None:
    """Rates for a study's Transformer, in tokens, scaled from the most similar measured one; None if there is none."""
    if not rates.text_models:
        return None
    ours = text_size(study.config.model, vocabulary=study.config.dataset.subwords).multiply_adds

    def multiply_adds(name: str) -> int:
        return text_size(name, vocabulary=rates.text_models[name].subwords).multiply_adds

    name = min(rates.text_models, key=lambda each: abs(math.log(ours / multiply_adds(each))))
    measured, factor = rates.text_models[name], multiply_adds(name) / ours
    return Speed(
        measured.train_tokens_per_s * factor,
        measured.evaluate_tokens_per_s * factor,
        math.inf,  # no BatchNorm re-estimation
        scaled="" if factor == 1 else f"{name} with {measured.subwords:,} subwords",
        decode=measured.decode_sentences_per_s * factor,
        threads=measured.threads or rates.threads,
    )


@dataclass(frozen=True)
class TextPricer(Pricer):
    """Work and bytes of a translation study's products."""

    @cached_property
    def _entry(self) -> ParallelCorpus:
        return self.study.config.dataset.entry

    @cached_property
    def pairs(self) -> int:
        """Number of training pairs: counted if the corpus has been prepared, else as stated, before cleaning."""
        try:
            return int(read_arrays(self.study.prepared)["pairs"][0])
        except (UserError, KeyError):
            return self.study.config.dataset.train_pairs or self._stated("train")

    def _stated(self, split: str) -> int:
        """Number of pairs of a split, as published, or as the user's own file has lines (0 while it is missing)."""
        if self._entry.files is None:
            return getattr(self._entry, f"{split}_pairs") or 0
        try:
            return count_lines(self._entry.files / f"{split}.{self._entry.source_language}")
        except UserError:
            return 0

    @cached_property
    def tokens_a_pair(self) -> float:
        """Target tokens per training pair: counted if the corpus has been prepared, else `TOKENS_A_PAIR`."""
        try:
            counted = json.loads(read_metadata(self.study.prepared)["cleaning"])["tokens"]
            return counted[self._entry.target_language] / self.pairs + 1
        except (UserError, KeyError, ValueError, ZeroDivisionError):
            return TOKENS_A_PAIR

    @property
    def assumed(self) -> str:
        source = self._entry.source_language
        if self._entry.files is not None and not (path := self._entry.files / f"train.{source}").is_file():
            return f"there is no {path}, so its hours are missing"
        if self.tokens_a_pair == TOKENS_A_PAIR:
            return f"{TOKENS_A_PAIR} tokens a pair, until target `data` has counted them"
        return ""

    @cached_property
    def _held_out(self) -> tuple[int, int]:
        choice = self.study.config.dataset
        return (
            choice.validation_pairs or self._stated("validation"),
            choice.test_pairs or self._stated("test"),
        )

    @cached_property
    def network(self) -> Size:
        return text_size(self.study.config.model, vocabulary=self.study.config.dataset.subwords)

    def steps(self, training: Training) -> int:
        """Steps per epoch, neglecting padding."""
        return max(1, round(self.pairs * self.tokens_a_pair / (training.batch_size * training.accumulate)))

    def epochs(self, training: Training) -> int:
        return training.epochs or math.ceil(training.iterations / self.steps(training))

    def data_bytes(self) -> float:
        tokens = self.pairs * self.tokens_a_pair
        return 2 * (tokens * _BYTES_A_TOKEN + self.pairs * _BYTES_A_PAIR)

    @property
    def score_bytes(self) -> float:
        return sum(self._held_out) * self.tokens_a_pair * _BYTES_A_HYPOTHESIS_TOKEN

    @property
    def _evaluated(self) -> float:
        """Tokens of the measured training pairs and of validation."""
        pairs = min(self.study.config.measure.train_pairs, self.pairs) + self._held_out[0]
        return pairs * self.tokens_a_pair

    def _measured(self) -> Work:
        return Work(evaluate=self._evaluated, decoded=self._decoded(sum(self._held_out)))

    def _decoded(self, sentences: int) -> float:
        """Equivalent number of sentences of the reference length; lengths are those of the training pairs."""
        return sentences * self.tokens_a_pair / TOKENS_A_PAIR

    def _training(self, training: Training, stop: int | None, last_epochs: int = 0) -> Work:
        """`last_epochs` is ignored: the error of a retraining is measured at its end, not over its last epochs."""
        epochs = stop or self.epochs(training)
        trained = epochs if training.by_epoch else training.iterations / self.steps(training)
        passes = 2 if training.sam_rho > 0 else 1
        validated = epochs // training.evaluate_every * self._held_out[0] * self.tokens_a_pair
        return Work(train=passes * trained * self.pairs * self.tokens_a_pair, evaluate=validated)

    def _cka(self, replicas: int) -> Work:
        return Work(evaluate=float(self.study.config.measure.cka_tokens * replicas))

    def _lmc(self, points: int, pairs: int) -> Work:
        measure = self.study.config.measure
        decoded = pairs * measure.points * self._held_out[0] if measure.bleu_along_line else 0
        return Work(evaluate=points * self._evaluated, decoded=self._decoded(decoded))
