"""Translation (paper, section 3.1): fairseq's Transformer, loss and beam search, driven by the project's trainer.

A Transformer has no BatchNorm, so `reestimate` returns the weights unchanged. The trainer's split ``test`` is the
validation set, on which the paper measures; BLEU is measured on validation and test, once for each delivered checkpoint
(`Translation.scores`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from three_regime.config import Training
from three_regime.datasets.corpora import MANIFEST
from three_regime.errors import UserError
from three_regime.models import transformer
from three_regime.models.families import parse
from three_regime.models.lean_transformer import LeanTransformer
from three_regime.models.matching import fit
from three_regime.preparation.cleaning import normalised
from three_regime.preparation.prepared_text import PreparedText, open_text
from three_regime.random_streams import Streams
from three_regime.settings import Opened
from three_regime.study.fingerprints import input_digest
from three_regime.study.grid import Study
from three_regime.system.cpu_memory import keep_freed_memory
from three_regime.system.files import PROVENANCE_KEY, Arrays, read_metadata
from three_regime.tasks.interface import Metrics, Split, Weights
from three_regime.tasks.translation.batches import Batches, TextBatch, TextEpoch, TrainingBatch
from three_regime.tasks.translation.beam_search import DEFAULT_SEARCH, Search, Symbols, translate
from three_regime.tasks.translation.bleu import kept, scored
from three_regime.tasks.translation.dropout import Dropout
from three_regime.tasks.translation.loss import logits_of, smoothed_loss

EVALUATION_TOKENS = 4096
"""Maximum number of tokens in an evaluation batch, including padding, of its longer side."""


class Translation:
    """The translation task; see `three_regime.tasks.interface.Task`. It has no buffers.

    Parameters
    ----------
    text
        The prepared corpus.
    model
        A model name.
    measured_pairs
        Size of the fixed subset of training pairs, spread over the corpus (`spread`), for training error and CKA;
        None: all.
    held_out
        Split → number of pairs to measure on, the first ones; None: all.
    search
        Beam search settings for BLEU; greedy search is measured as well.
    """

    unit = "tokens"

    def __init__(
        self,
        text: PreparedText,
        model: str,
        device: torch.device,
        *,
        measured_pairs: int | None = None,
        held_out: Mapping[str, int | None] | None = None,
        search: Search = DEFAULT_SEARCH,
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.device = device
        self.model_name = model
        self.text = text
        self.search = search
        self.model = transformer.build(model, text.dictionary)
        self.network = LeanTransformer(parse(model), transformer.MAX_POSITIONS, text.dictionary.pad(), device)
        self.parameters = {name: tuple(value.shape) for name, value in self.model.named_parameters()}
        self.buffers: dict[str, tuple[int, ...]] = {}
        self.prunable = transformer.prunable(self.model)
        self._pairs = {split: text.pairs(split) for split in ("train", "validation", "test")}
        self._counts = {
            "train": _first(measured_pairs, len(self._pairs["train"])),
            **{split: _first((held_out or {}).get(split), len(self._pairs[split])) for split in ("validation", "test")},
        }
        for split, pairs in self._pairs.items():
            longest = max(int(np.max(pairs.source_lengths)), int(np.max(pairs.target_lengths)))
            if longest > transformer.MAX_POSITIONS:
                mend = "lower dataset.max_tokens or raise" if split == "train" else "raise"
                raise UserError(
                    f"{text.folder}: split {split} has a sentence of {longest} subwords and the model takes"
                    f" {transformer.MAX_POSITIONS}; {mend} dataset.subwords"
                )
        self._batches: dict[tuple[str, int], Batches] = {}

    def initial_weights(self, streams: Streams) -> Arrays:
        return transformer.initial_weights(self.model, streams.generator("initialisation"))

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
        for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
            if name in arrays and len(arrays[name]) != len(self.text.dictionary):
                raise UserError(
                    f"checkpoint {source} has a vocabulary of {len(arrays[name])} subwords and {self.text.folder} has"
                    f" {len(self.text.dictionary)}: use the data that it was trained on (dataset.subwords)"
                )
        wanted = {name: value.detach().cpu().numpy() for name, value in self.model.named_parameters()}
        arrays = fit(arrays, wanted, source)
        return {name: torch.from_numpy(np.array(array)).to(self.device) for name, array in arrays.items()}

    def epoch(self, streams: Streams, epoch: int, training: Training) -> TextEpoch:
        return TextEpoch(self._training_batches(training.batch_size), streams, epoch, training)

    def loss(self, parameters: Weights, buffers: Weights, batch: TrainingBatch) -> tuple[Tensor, Tensor, int]:
        """Label-smoothed cross-entropy, averaged over target tokens, and number of wrong tokens (as fairseq)."""
        pairs = batch.batch
        outputs = self._outputs(parameters, pairs, Dropout(batch.dropout, batch.seed, self.device))
        table = parameters[self.network.target_table]
        total, errors = smoothed_loss(outputs, table, pairs.targets, batch.label_smoothing)
        return total / pairs.tokens, errors, pairs.tokens

    def targets(self, batch: TrainingBatch) -> int:
        return batch.batch.tokens

    def halves(self, batch: TrainingBatch) -> tuple[TrainingBatch, TrainingBatch] | None:
        """Two halves of the sentence pairs, each with its own dropout masks; None for a single pair."""
        return batch.halves(self.text.dictionary.pad())

    @torch.no_grad()
    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """Token error and token NLL (nats) with teacher forcing, including end-of-sentence tokens, without smoothing.

        Parameters
        ----------
        split
            ``train``: the fixed subset of the training pairs; ``test``: the validation set.
        images
            Number of pairs to use: training pairs spread over the corpus, or the first validation pairs.
        """
        errors = torch.zeros((), dtype=torch.int64, device=self.device)
        nll = torch.zeros((), dtype=torch.float64, device=self.device)
        total = 0
        table = weights[self.network.target_table]
        for batch in self._evaluation_batches({"train": "train", "test": "validation"}[split], images):
            loss, wrong = smoothed_loss(self._outputs(weights, batch), table, batch.targets, 0.0)
            errors += wrong
            nll += loss.double()
            total += batch.tokens
        return Metrics(errors.item() / total, nll.item() / total)

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """Return the weights unchanged: a Transformer has no BatchNorm."""
        return dict(weights)

    @property
    def comparable(self) -> int:
        return int(self._measured[1][-1])

    @cached_property
    def _measured(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the measured training pairs, and cumulative numbers of their target tokens."""
        rows = spread(len(self._pairs["train"]), self._counts["train"])
        return rows, np.cumsum(np.asarray(self._pairs["train"].target_lengths)[rows])

    @torch.no_grad()
    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield logits, then softmax outputs, at `images` target tokens of the measured training pairs.

        The tokens come from whole pairs spread over the corpus (`spread`). Each output is (tokens, dictionary).

        Raises
        ------
        UserError
            When the fixed subset has fewer target tokens.
        """
        if images > self.comparable:
            raise UserError(
                f"{images} target tokens were requested, but the measured training pairs have {self.comparable}"
            )
        rows, ends = self._measured
        count = int(np.searchsorted(ends, images)) + 1
        starts = dict(zip(rows[:count].tolist(), [0, *ends[: count - 1].tolist()], strict=True))
        logits = np.empty((int(ends[count - 1]), len(self.text.dictionary)), np.float32)
        table = weights[self.network.target_table]
        for batch in self._evaluation_batches("train", count):
            lengths = (batch.target != self.text.dictionary.pad()).sum(1).tolist()
            begun = zip(batch.rows, lengths, strict=True)
            places = np.concatenate([starts[row] + np.arange(length) for row, length in begun])
            for chosen, found in logits_of(self._outputs(weights, batch), table):
                logits[places[chosen]] = found.cpu().numpy()
        logits = logits[:images]
        yield "logits", logits
        yield "softmax", _softmax(logits)

    def scores(self, weights: Weights, splits: Sequence[str] = ("validation", "test")) -> dict[str, Any]:
        """BLEU and chrF of beam search, its hypotheses, and BLEU of greedy search.

        Returns
        -------
        ``beam``, ``length_penalty``, ``longest`` (limit of a translation's subwords), and for each split the entries of
        `bleu.scored` plus ``greedy_bleu`` and ``hypotheses`` (`bleu.kept`).
        """
        found: dict[str, Any] = {
            "beam": self.search.beam,
            "length_penalty": self.search.length_penalty,
            "longest": f"{self.search.factor:g} x source + {self.search.extra}",
        }
        for split in splits:
            hypotheses = self.translations(weights, split, self.search)
            greedy = self._scored(self.translations(weights, split, Search(beam=1)), split)
            found[split] = {
                **self._scored(hypotheses, split),
                "greedy_bleu": greedy["bleu"],
                "hypotheses": kept(hypotheses),
            }
        return found

    def bleu(self, weights: Weights, split: str) -> float:
        """BLEU of beam search on a split."""
        return self._scored(self.translations(weights, split, self.search), split)["bleu"]

    def _scored(self, hypotheses: Sequence[str], split: str) -> dict[str, Any]:
        references = self.text.references(split)[: self._counts[split]]
        return scored(hypotheses, references, self.text.languages[1])

    def translations(self, weights: Weights, split: str, search: Search) -> list[str]:
        """Detokenised translations of a split."""
        source = self._pairs[split].source
        return self._translated(weights, [source[row] for row in range(self._counts[split])], search)

    def translate_lines(self, weights: Weights, lines: Sequence[str], search: Search) -> list[str]:
        """Detokenised translations of lines of text; empty lines stay empty."""
        places = [place for place, line in enumerate(lines) if normalised(line)]
        found = self._translated(weights, [self.text.encode(lines[place]) for place in places], search, places)
        by_place = dict(zip(places, found, strict=True))
        return [by_place.get(place, "") for place in range(len(lines))]

    def _translated(
        self, weights: Weights, sentences: list[Tensor], search: Search, places: Sequence[int] | None = None
    ) -> list[str]:
        symbols = Symbols(self.text.dictionary.pad(), self.text.dictionary.eos())
        found = translate(self.network, weights, symbols, sentences, search, places=places)
        return [self.text.decode(ids.tolist()) for ids in found]

    def _outputs(self, weights: Weights, batch: TextBatch, drop: Dropout | None = None) -> Tensor:
        """Decoder outputs before the output projection, at non-padding target tokens, (tokens, width)."""
        drop = drop or Dropout(0.0, 0, self.device)
        encoded = self.network.encode(weights, batch.source, batch.hidden, drop)
        found = self.network.decode(weights, batch.previous, encoded, batch.hidden, drop).flatten(0, 1)
        return found if batch.tokens == len(found) else found.index_select(0, batch.real)

    def _training_batches(self, max_tokens: int) -> Batches:
        key = ("training", max_tokens)
        if key not in self._batches:
            self._batches[key] = Batches(self._pairs["train"], self.text.dictionary, max_tokens, self.device)
        return self._batches[key]

    def _evaluation_batches(self, split: str, count: int | None) -> Batches:
        count = _first(count, self._counts[split])
        key = (split, count)
        if key not in self._batches:
            pairs = self._pairs[split]
            rows = spread(len(pairs), count) if split == "train" else np.arange(count)
            sides = np.stack([pairs.source_lengths, pairs.target_lengths])
            limit = max(int(sides[:, rows].max()), EVALUATION_TOKENS)
            self._batches[key] = Batches(pairs, self.text.dictionary, limit, self.device, rows=rows)
        return self._batches[key]


def spread(total: int, count: int) -> np.ndarray:
    """Indices of `count` pairs spread evenly over `total`; a smaller count gives a prefix.

    Indices are ordered by the fractional part of index · golden ratio: the gaps between the first n of them take at
    most three different values (Sós 1958).
    """
    golden = (5**0.5 - 1) / 2
    return np.argsort((np.arange(total) * golden) % 1)[:count]


def _first(wanted: int | None, available: int) -> int:
    return available if wanted is None else min(wanted, available)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row, float32, without further copies."""
    return torch.from_numpy(logits).softmax(1).numpy()


def of_study(study: Study, device: str) -> Translation:
    """The task of a study, on its prepared corpus."""
    choice, measure = study.config.dataset, study.config.measure
    return Translation(
        open_text(study.prepared),
        study.config.model,
        torch.device(device),
        measured_pairs=measure.train_pairs,
        held_out={"validation": choice.validation_pairs, "test": choice.test_pairs},
        search=Search(measure.beam, measure.length_penalty),
    )


def opened(dataset: str, folder: Path) -> Opened:
    """Open the prepared corpus in a folder, to measure single checkpoints.

    Raises
    ------
    UserError
        As `open_text`; also when the folder holds another corpus than `dataset`.
    """
    text = open_text(folder / MANIFEST)
    there = json.loads(read_metadata(folder / MANIFEST)[PROVENANCE_KEY])["recipe"]["dataset"]
    if there != dataset:
        raise UserError(f"{folder} holds {there}, not {dataset}: give --dataset {there}, or the folder of {dataset}")

    def task(model: str, device: str, train: int | None, test: int | None) -> Translation:
        return Translation(text, model, torch.device(device), measured_pairs=train, held_out={"validation": test})

    counts = {"train": len(text.pairs("train")), "test": len(text.pairs("validation"))}
    return Opened(counts, lambda: input_digest(folder / MANIFEST), task)
