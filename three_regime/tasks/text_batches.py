"""Batches of sentence pairs: of similar length, of at most so many tokens, always the same ones, in a drawn order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.data.data_utils import batch_by_size
from torch import Tensor

from three_regime.config import Training
from three_regime.errors import UserError
from three_regime.streams import Streams

if TYPE_CHECKING:
    from three_regime.datasets.prepared_text import Pairs

CACHED_TOKENS = {"cpu": 4_000_000, "cuda": 64_000_000}
"""A split of up to so many padded tokens stays on the device as ready batches (24 bytes a token); a larger one is read
from its mapped files in every epoch."""


@dataclass(frozen=True)
class TextBatch:
    """Padded sentence pairs on the device, ready for the model.

    Attributes
    ----------
    source, previous, target
        (n, source length), (n, target length) twice; int64. Sources are padded on the left, targets on the right;
        `previous` is the target moved one place to the right, its end mark first (fairseq's custom).
    source_lengths
        (n,) int64.
    tokens
        Number of target tokens, end marks included, padding not.
    rows
        Place of each pair in its split.
    """

    source: Tensor
    source_lengths: Tensor
    previous: Tensor
    target: Tensor
    tokens: int
    rows: tuple[int, ...]

    def part(self, chosen: slice, padding: int) -> TextBatch:
        """Some of the pairs, padded as here; `padding` is the index of the padding token."""
        target = self.target[chosen]
        return TextBatch(
            self.source[chosen],
            self.source_lengths[chosen],
            self.previous[chosen],
            target,
            int((target != padding).sum()),
            self.rows[chosen],
        )


@dataclass(frozen=True)
class TrainingBatch:
    """A batch with what its training needs: the rate of dropout, the seed of its masks, and the label smoothing."""

    batch: TextBatch
    dropout: float
    seed: int
    label_smoothing: float

    def halves(self, padding: int) -> tuple[TrainingBatch, TrainingBatch] | None:
        """Two batches with a half of the pairs each (None for a single pair); their seeds follow from this one's."""
        middle = len(self.batch.rows) // 2
        if middle == 0:
            return None
        first, second = (self.batch.part(chosen, padding) for chosen in (slice(middle), slice(middle, None)))
        seeds = np.random.SeedSequence(self.seed).generate_state(2, np.uint64) >> 1
        return replace(self, batch=first, seed=int(seeds[0])), replace(self, batch=second, seed=int(seeds[1]))


class Batches:
    """A split cut into batches by fairseq, always in the same way: pairs sorted by length, ties in file order.

    Parameters
    ----------
    max_tokens
        Largest number of tokens, padding included, of a batch's longer side.
    rows
        The pairs to use; None uses all.
    setting
        Name of the setting behind `max_tokens`, for the error message.

    Raises
    ------
    UserError
        When a sentence alone has more than `max_tokens`.
    """

    def __init__(
        self,
        pairs: Pairs,
        dictionary: Dictionary,
        max_tokens: int,
        device: torch.device,
        *,
        rows: Sequence[int] | None = None,
        setting: str = "batch_size",
    ) -> None:
        self._data = LanguagePairDataset(
            pairs.source,
            np.asarray(pairs.source_lengths),
            dictionary,
            pairs.target,
            np.asarray(pairs.target_lengths),
            dictionary,
            shuffle=False,
        )
        self._device = device
        order = self._data.ordered_indices()
        if rows is not None:
            order = order[np.isin(order, np.asarray(rows))]
        lengths = self._data.num_tokens_vec(order)
        if len(order) and lengths.max() > max_tokens:
            row = int(order[lengths.argmax()])
            raise UserError(
                f"{setting} is {max_tokens} tokens, but pair {row + 1} has {lengths.max()}; raise {setting}, or lower"
                " dataset.max_tokens"
            )
        self.rows: list[np.ndarray] = batch_by_size(
            order, self._data.num_tokens, num_tokens_vec=lengths.astype(np.int64), max_tokens=max_tokens
        )
        self._cache: list[TextBatch | None] | None = None
        if (
            sum(len(rows) * int(self._data.num_tokens_vec(rows).max()) for rows in self.rows)
            <= CACHED_TOKENS[device.type]
        ):
            self._cache = [None] * len(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TextBatch:
        if self._cache is None:
            return self._collated(index)
        found = self._cache[index]
        if found is None:
            found = self._cache[index] = self._collated(index)
        return found

    def _collated(self, index: int) -> TextBatch:
        sample = self._data.collater([self._data[int(row)] for row in self.rows[index]])
        inputs = sample["net_input"]
        return TextBatch(
            *(
                tensor.to(self._device)
                for tensor in (
                    inputs["src_tokens"],
                    inputs["src_lengths"],
                    inputs["prev_output_tokens"],
                    sample["target"],
                )
            ),
            sample["ntokens"],
            tuple(sample["id"].tolist()),
        )


class TextEpoch:
    """One epoch of one member: the fixed batches in a drawn order, and the seed of each batch's dropout.

    Parameters
    ----------
    batches
        Of the training split, at the training's `batch_size`.
    """

    def __init__(self, batches: Batches, streams: Streams, epoch: int, training: Training) -> None:
        whole, rest = divmod(len(batches), training.accumulate)
        self.steps = whole if training.drop_last or not rest else whole + 1
        self._batches, self._training = batches, training
        self._order = streams.generator("order", epoch).permutation(len(batches))
        self._seed: Callable[[int, int], int] = lambda step, part: int(
            streams.generator("dropout", epoch, step, part).integers(2**63)
        )

    def micro_batches(self, step: int) -> tuple[TrainingBatch, ...]:
        """`Training.accumulate` batches, fewer in the last step of an epoch."""
        size = self._training.accumulate
        chosen = self._order[step * size : (step + 1) * size]
        return tuple(
            TrainingBatch(
                self._batches[int(index)],
                self._training.dropout,
                self._seed(step, part) if self._training.dropout else 0,
                self._training.label_smoothing,
            )
            for part, index in enumerate(chosen)
        )
