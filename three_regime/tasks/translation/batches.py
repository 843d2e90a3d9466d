"""Batches of sentence pairs of similar length with at most `batch_size` tokens, in a random order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import batch_by_size
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from three_regime.config import Training
from three_regime.errors import UserError
from three_regime.models.lean_transformer import hidden_padding
from three_regime.random_streams import Streams

if TYPE_CHECKING:
    from three_regime.preparation.prepared_text import Pairs

CACHED_TOKENS = {"cpu": 4_000_000, "cuda": 64_000_000}
"""Padded tokens of a split up to which its batches are cached on the device (32 bytes per token); a larger split is
read from its memory-mapped files in every epoch."""


@dataclass(frozen=True)
class TextBatch:
    """Padded sentence pairs on the device, ready for the model.

    Attributes
    ----------
    source, previous, target
        (n, source length), (n, target length), (n, target length); int64, padded on the right. `previous` is the target
        shifted right by one, with the end-of-sentence token first (as fairseq).
    hidden
        See `three_regime.models.lean_transformer.hidden_padding`.
    real
        (tokens,) int64: indices of non-padding tokens in the flattened target.
    rows
        Index of each pair in its split.
    """

    source: Tensor
    hidden: Tensor | None
    previous: Tensor
    target: Tensor
    real: Tensor
    rows: tuple[int, ...]

    @classmethod
    def of(cls, source: Tensor, previous: Tensor, target: Tensor, rows: tuple[int, ...], padding: int) -> TextBatch:
        """Make a batch from padded tokens; `padding` is the index of the padding token."""
        real = (target.flatten() != padding).nonzero()[:, 0]
        return cls(source, hidden_padding(source, padding), previous, target, real, rows)

    @property
    def tokens(self) -> int:
        """Number of target tokens, including end-of-sentence tokens, without padding."""
        return len(self.real)

    @property
    def targets(self) -> Tensor:
        """Target tokens without padding, (tokens,)."""
        return self.target.flatten()[self.real]

    def part(self, chosen: slice, padding: int) -> TextBatch:
        """A slice of the pairs, with the same padding."""
        return self.of(self.source[chosen], self.previous[chosen], self.target[chosen], self.rows[chosen], padding)


@dataclass(frozen=True)
class TrainingBatch:
    """A batch with its dropout rate, dropout seed and label smoothing."""

    batch: TextBatch
    dropout: float
    seed: int
    label_smoothing: float

    def halves(self, padding: int) -> tuple[TrainingBatch, TrainingBatch] | None:
        """Split into two batches of half the pairs each (None for a single pair); seeds are derived from this one's."""
        middle = len(self.batch.rows) // 2
        if middle == 0:
            return None
        first, second = (self.batch.part(chosen, padding) for chosen in (slice(middle), slice(middle, None)))
        seeds = np.random.SeedSequence(self.seed).generate_state(2, np.uint64) >> 1
        return replace(self, batch=first, seed=int(seeds[0])), replace(self, batch=second, seed=int(seeds[1]))


class Batches:
    """Batches of a split by fairseq's rule: pairs sorted by source, then target length; ties in file order.

    Parameters
    ----------
    max_tokens
        Maximum number of tokens in a batch, including padding, of its longer side.
    rows
        Indices of the pairs to use; None: all.

    Raises
    ------
    UserError
        When a single sentence has more than `max_tokens`.
    """

    def __init__(
        self,
        pairs: Pairs,
        dictionary: Dictionary,
        max_tokens: int,
        device: torch.device,
        *,
        rows: Sequence[int] | None = None,
    ) -> None:
        self._pairs, self._device = pairs, device
        self._padding, self._end = dictionary.pad(), dictionary.eos()
        self._sides = np.asarray(pairs.source_lengths), np.asarray(pairs.target_lengths)
        order = self._sorted(np.arange(len(pairs)) if rows is None else np.sort(np.asarray(rows)))
        lengths = np.maximum(*self._sides)[order].astype(np.int64)
        if len(order) and lengths.max() > max_tokens:
            row = int(order[lengths.argmax()])
            raise UserError(
                f"batch_size is {max_tokens} tokens, but pair {row + 1} has {lengths.max()}; raise batch_size, or lower"
                " dataset.max_tokens"
            )
        self.rows: list[np.ndarray] = batch_by_size(
            order, num_tokens_fn=None, num_tokens_vec=lengths, max_tokens=max_tokens
        )
        self._cache: list[TextBatch | None] | None = None
        longest = np.maximum(*self._sides)
        if sum(len(rows) * int(longest[rows].max()) for rows in self.rows) <= CACHED_TOKENS[device.type]:
            self._cache = [None] * len(self.rows)

    def _sorted(self, rows: np.ndarray) -> np.ndarray:
        source, target = self._sides
        return rows[np.lexsort((target[rows], source[rows]))]

    def with_ties_drawn(self, generator: np.random.Generator) -> Batches:
        """Batches of the same sizes, with pairs of equal source and target length in random order."""
        order = self._sorted(generator.permutation(np.concatenate(self.rows)))
        drawn = copy.copy(self)
        drawn.rows = np.split(order, np.cumsum([len(rows) for rows in self.rows])[:-1])
        drawn._cache = None
        return drawn

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
        rows = tuple(self.rows[index].tolist())

        def padded(side: Sequence[Tensor]) -> Tensor:
            lines = [side[row] for row in rows]
            return pad_sequence(lines, batch_first=True, padding_value=self._padding).to(self._device)

        target = padded(self._pairs.target)
        previous = target.roll(1, 1)
        previous[previous == self._end] = self._padding  # end-of-sentence tokens of sentences shorter than the batch
        previous[:, 0] = self._end
        return TextBatch.of(padded(self._pairs.source), previous, target, rows, self._padding)


class TextEpoch:
    """One epoch of one member: batches in random order, and the dropout seed of each.

    The batches are the same for all epochs and members, unless `Training.shuffle_ties` is set.

    Parameters
    ----------
    batches
        Batches of the training split at `Training.batch_size`.
    """

    def __init__(self, batches: Batches, streams: Streams, epoch: int, training: Training) -> None:
        whole, rest = divmod(len(batches), training.accumulate)
        self.steps = whole if training.drop_last or not rest else whole + 1
        if training.shuffle_ties:
            batches = batches.with_ties_drawn(streams.generator("ties", epoch))
        self._batches, self._training = batches, training
        self._order = streams.generator("order", epoch).permutation(len(batches))
        self._seed: Callable[[int, int], int] = lambda step, part: int(
            streams.generator("dropout", epoch, step, part).integers(2**63)
        )

    def micro_batches(self, step: int) -> tuple[TrainingBatch, ...]:
        """`Training.accumulate` batches; the last step of an epoch may have fewer."""
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
