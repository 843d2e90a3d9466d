"""Translation (paper, section 3.1): fairseq's Transformer, loss and decoding, driven by the project's trainer.

What the setting lacks that images have: BatchNorm. `reestimate` therefore returns the weights as they are, along the
line between two replicas too. The split that the trainer calls ``test`` is the validation set, on which the paper
measures; BLEU is measured on validation and test once for each delivered checkpoint (`Translation.scores`).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from torch import Tensor
from torch.func import functional_call

from three_regime.bleu import bleu
from three_regime.config import Training
from three_regime.datasets.prepared_text import PreparedText, open_text
from three_regime.decoding import DEFAULT_SEARCH, Search, translate
from three_regime.errors import UserError
from three_regime.foreign import fit
from three_regime.memory import keep_freed_memory
from three_regime.models import transformer
from three_regime.similarity import Outputs, condensed
from three_regime.storage import Arrays
from three_regime.streams import Streams
from three_regime.study import Study
from three_regime.tasks import Metrics, Split, Weights
from three_regime.tasks.text_batches import Batches, TextBatch, TextEpoch, TrainingBatch

EVALUATION_LOGITS = 32_000_000
"""Logits computed at a time in evaluation, 128 MB: tokens of a batch times the size of the dictionary."""


class Translation:
    """The translation task; see `three_regime.tasks.Task`. It has no buffers: every tensor of the model is trained.

    Parameters
    ----------
    text
        The prepared corpus.
    model
        A model name.
    measured_pairs
        The first so many training pairs are the fixed subset of training error and CKA; None uses all.
    held_out
        Split → measure on the first so many of its pairs; None uses all.
    search
        The beam search whose BLEU counts; greedy search is measured beside it.
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
        # fairseq masks padding by booleans and the future by numbers, which torch deprecates and still takes.
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")
        self.device = device
        self.model_name = model
        self.text = text
        self.search = search
        self.model = transformer.build(model, text.dictionary).to(device)
        self.parameters = {name: tuple(value.shape) for name, value in self.model.named_parameters()}
        self.buffers: dict[str, tuple[int, ...]] = {}
        self.prunable = transformer.prunable(self.model)
        self._dropouts = transformer.dropouts(self.model)
        self._pairs = {split: text.pairs(split) for split in ("train", "validation", "test")}
        self._counts = {
            "train": _first(measured_pairs, len(self._pairs["train"])),
            **{split: _first((held_out or {}).get(split), len(self._pairs[split])) for split in ("validation", "test")},
        }
        for split, pairs in self._pairs.items():
            longest = max(int(np.max(pairs.source_lengths)), int(np.max(pairs.target_lengths)))
            if longest > transformer.MAX_POSITIONS:
                raise UserError(
                    f"{text.folder}: split {split} has a sentence of {longest} subwords and the model takes"
                    f" {transformer.MAX_POSITIONS}; lower dataset.max_tokens or raise dataset.subwords"
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
        """Label-smoothed cross-entropy, the mean over the target tokens of the batch, and token errors (fairseq)."""
        pairs = batch.batch
        self.model.train()
        for dropout in self._dropouts:
            dropout.p = batch.dropout
        with self._seeded(batch.seed if batch.dropout else None):
            logits = self._forward(parameters, pairs)
        with torch.autocast(self.device.type, enabled=False):
            log_probabilities = logits.float().log_softmax(-1)
            total, _ = label_smoothed_nll_loss(
                log_probabilities.flatten(0, 1),
                pairs.target.flatten(),
                batch.label_smoothing,
                ignore_index=self.text.dictionary.pad(),
            )
        return total / pairs.tokens, self._errors(logits.detach(), pairs.target), pairs.tokens

    def targets(self, batch: TrainingBatch) -> int:
        return batch.batch.tokens

    def halves(self, batch: TrainingBatch) -> tuple[TrainingBatch, TrainingBatch] | None:
        """Two halves of the sentence pairs, with dropout masks of their own; None for a single pair."""
        return batch.halves(self.text.dictionary.pad())

    @torch.no_grad()
    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """Token error and token NLL (nats) with the reference as prefix, end marks included, nothing smoothed.

        Parameters
        ----------
        split
            ``train``: the fixed subset of the training pairs; ``test``: the validation set.
        images
            Use the first so many pairs only.
        """
        errors = torch.zeros((), dtype=torch.int64, device=self.device)
        nll = torch.zeros((), dtype=torch.float64, device=self.device)
        total = 0
        self.model.eval()
        for batch in self._evaluation_batches({"train": "train", "test": "validation"}[split], images):
            logits = self._forward(weights, batch)
            errors += self._errors(logits, batch.target)
            nll += label_smoothed_nll_loss(
                logits.log_softmax(-1).flatten(0, 1),
                batch.target.flatten(),
                0.0,
                ignore_index=self.text.dictionary.pad(),
            )[1].double()
            total += batch.tokens
        return Metrics(errors.item() / total, nll.item() / total)

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """The weights as they are: a Transformer has no statistics of its data."""
        return dict(weights)

    @property
    def comparable(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def _ends(self) -> np.ndarray:
        """Target tokens up to the end of each measured training pair."""
        return np.cumsum(self._pairs["train"].target_lengths[: self._counts["train"]])

    @torch.no_grad()
    def outputs(self, weights: Weights, images: int) -> dict[str, Outputs]:
        """Logits and softmax outputs at the first `images` target tokens of the training pairs, in file order.

        Each is (tokens, dictionary), or a Gram matrix where that is smaller.

        Raises
        ------
        UserError
            When the fixed subset has fewer target tokens.
        """
        ends = self._ends
        if images > self.comparable:
            raise UserError(
                f"{images} target tokens were asked for, but the measured training pairs have {self.comparable}"
            )
        pairs = int(np.searchsorted(ends, images)) + 1
        starts = np.concatenate([[0], ends])
        logits = np.empty((int(ends[pairs - 1]), len(self.text.dictionary)), np.float32)
        self.model.eval()
        for batch in self._evaluation_batches("train", pairs):
            for row, found, target in zip(batch.rows, self._forward(weights, batch), batch.target, strict=True):
                kept = found[target != self.text.dictionary.pad()]
                logits[starts[row] : starts[row + 1]] = kept.cpu().numpy()
        logits = logits[:images]
        return {"logits": condensed(logits), "softmax": condensed(_softmax(logits))}

    def scores(self, weights: Weights, splits: Sequence[str] = ("validation", "test")) -> dict[str, Any]:
        """BLEU of beam search and of greedy search, each with its signature.

        Returns
        -------
        ``beam``, ``length_penalty``, and for each split the entries of `three_regime.bleu.bleu` with ``greedy_bleu``
        beside them.
        """
        found: dict[str, Any] = {"beam": self.search.beam, "length_penalty": self.search.length_penalty}
        for split in splits:
            references = self.text.references(split)[: self._counts[split]]
            score = bleu(self.translations(weights, split, self.search), references)
            greedy = bleu(self.translations(weights, split, Search(beam=1)), references)
            found[split] = {**score, "greedy_bleu": greedy["bleu"]}
        return found

    def translations(self, weights: Weights, split: str, search: Search) -> list[str]:
        """Detokenised translations of a split's sources."""
        source = self._pairs[split].source
        return self._translated(weights, [source[row] for row in range(self._counts[split])], search)

    def translate_lines(self, weights: Weights, lines: Sequence[str], search: Search) -> list[str]:
        """Detokenised translations of sentences; an empty line stays empty."""
        places = [place for place, line in enumerate(lines) if line.strip()]
        found = self._translated(weights, [self.text.encode(lines[place]) for place in places], search, places)
        by_place = dict(zip(places, found, strict=True))
        return [by_place.get(place, "") for place in range(len(lines))]

    def _translated(
        self, weights: Weights, sentences: list[Tensor], search: Search, places: Sequence[int] | None = None
    ) -> list[str]:
        found = translate(self.model, weights, self.text.dictionary, sentences, search, places=places)
        return [self.text.decode(ids.tolist()) for ids in found]

    def _forward(self, weights: Weights, batch: TextBatch) -> Tensor:
        """Logits (n, target length, dictionary)."""
        inputs = (batch.source, batch.source_lengths, batch.previous)
        return functional_call(self.model, dict(weights), inputs)[0]

    def _errors(self, logits: Tensor, target: Tensor) -> Tensor:
        return ((logits.argmax(-1) != target) & (target != self.text.dictionary.pad())).sum()

    @contextlib.contextmanager
    def _seeded(self, seed: int | None) -> Iterator[None]:
        """Draw from a generator at `seed` inside the block; the global ones are as before after it."""
        if seed is None:
            yield
            return
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield

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
            longest = max(int(np.max(sizes[:count])) for sizes in (pairs.source_lengths, pairs.target_lengths))
            limit = max(longest, EVALUATION_LOGITS // len(self.text.dictionary))
            self._batches[key] = Batches(pairs, self.text.dictionary, limit, self.device, rows=range(count))
        return self._batches[key]


def _first(wanted: int | None, available: int) -> int:
    return available if wanted is None else min(wanted, available)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row, float32, one array beside the input."""
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
