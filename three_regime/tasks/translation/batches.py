"""Batches of sentence pairs: of similar length, of at most so many tokens, always the same ones, in a drawn order."""

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
"""A split of up to so many padded tokens stays on the device as ready batches (32 bytes a token); a larger one is read
from its mapped files in every epoch."""


@dataclass(frozen=True)
class TextBatch:
    """Padded sentence pairs on the device, ready for the model.

    Attributes
    ----------
    source, previous, target
        (n, source length), (n, target length) twice; int64, padded on the right. `previous` is the target moved one
        place to the right, its end mark first (fairseq's custom).
    hidden
        See `three_regime.models.lean_transformer.hidden_padding`.
    real
        (tokens,) int64: places of the target's tokens, padding left out, in the flattened target.
    rows
        Place of each pair in its split.
    """

    source: Tensor
    hidden: Tensor | None
    previous: Tensor
    target: Tensor
    real: Tensor
    rows: tuple[int, ...]

    @classmethod
    def of(cls, source: Tensor, previous: Tensor, target: Tensor, rows: tuple[int, ...], padding: int) -> TextBatch:
        """From padded tokens; `padding` is the number of the padding token."""
        real = (target.flatten() != padding).nonzero()[:, 0]
        return cls(source, hidden_padding(source, padding), previous, target, real, rows)

    @property
    def tokens(self) -> int:
        """Number of target tokens, end marks included, padding not."""
        return len(self.real)

    @property
    def targets(self) -> Tensor:
        """The target's tokens, padding left out, (tokens,)."""
        return self.target.flatten()[self.real]

    def part(self, chosen: slice, padding: int) -> TextBatch:
        """Some of the pairs, padded as here."""
        return self.of(self.source[chosen], self.previous[chosen], self.target[chosen], self.rows[chosen], padding)


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
    """A split cut into batches by fairseq's rule: pairs sorted by source, then target length, ties in file order.

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
        self._pairs, self._device = pairs, device
        self._padding, self._end = dictionary.pad(), dictionary.eos()
        self._sides = np.asarray(pairs.source_lengths), np.asarray(pairs.target_lengths)
        order = self._sorted(np.arange(len(pairs)) if rows is None else np.sort(np.asarray(rows)))
        lengths = np.maximum(*self._sides)[order].astype(np.int64)
        if len(order) and lengths.max() > max_tokens:
            row = int(order[lengths.argmax()])
            raise UserError(
                f"{setting} is {max_tokens} tokens, but pair {row + 1} has {lengths.max()}; raise {setting}, or lower"
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
        """Batches of the same sizes, in which pairs whose sides are both equally long stand in a drawn order."""
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
        previous[previous == self._end] = self._padding  # the end marks of sentences with padding behind them
        previous[:, 0] = self._end
        return TextBatch.of(padded(self._pairs.source), previous, target, rows, self._padding)


class TextEpoch:
    """One epoch of one member: batches in a drawn order, and the seed of each batch's dropout.

    The batches are the same in every epoch and for every member, or are cut anew in each (`Training.shuffle_ties`).

    Parameters
    ----------
    batches
        Of the training split, at the training's `batch_size`.
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
