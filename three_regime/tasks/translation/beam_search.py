"""Beam search with fairseq's rules, whose translations do not depend on batching.

Hypotheses equal those of fairseq's ``SequenceGenerator``. That has one length limit per batch, repeats the encoded
sentence for every beam, and reorders the decoder's whole cache when beams are reordered. Here each sentence has its own
limit; the beams of a sentence share the encoded sentence and one cache of all beams' past, and reordering only changes
a mask of the cache entries that a beam descends from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from three_regime.errors import UserError
from three_regime.models.lean_transformer import LeanTransformer, Weights, hidden_padding
from three_regime.models.sizes import MAX_POSITIONS

FINISHED_SHARE = 0.25
"""Fraction of a batch that must be finished before finished sentences are removed, which copies the remaining ones."""

FIRST_STEPS = 16
"""Number of steps that the cache is allocated for at first; doubled as needed."""


@dataclass(frozen=True)
class Search:
    """Settings of beam search.

    Attributes
    ----------
    beam
        Beam size; 1 is greedy search.
    length_penalty
        Log-probabilities are divided by (length including the end-of-sentence token) ** length_penalty (fairseq's
        ``lenpen``; the penalty of Wu et al. 2016 is a different function).
    factor, extra
        A translation has at most factor · source tokens + extra tokens before its end-of-sentence token; that of the
        source is counted (this project's choice).
    """

    beam: int = 4
    length_penalty: float = 0.6
    factor: float = 2.0
    extra: int = 10

    def limit(self, tokens: int) -> int:
        """Maximum length of a translation without its end-of-sentence token; `tokens` is the source length with it."""
        return max(1, min(int(self.factor * tokens + self.extra), MAX_POSITIONS - 1))


DEFAULT_SEARCH = Search()


@dataclass(frozen=True)
class Symbols:
    """Indices of the special tokens."""

    padding: int
    end: int


def translate(
    network: LeanTransformer,
    weights: Weights,
    symbols: Symbols,
    sentences: Sequence[Tensor],
    search: Search,
    *,
    places: Sequence[int] | None = None,
    batch_size: int = 64,
) -> list[Tensor]:
    """Translate sentences; return translations in the same order, without end-of-sentence tokens.

    Sentences of similar length are decoded in padded batches, which do not affect the translations.

    Parameters
    ----------
    sentences
        Token indices, the end-of-sentence token last; (length,) int64 each.
    places
        Line of each sentence in its file (0-based), for the error message; None: 0, 1, ….
    batch_size
        Sentences decoded together.

    Raises
    ------
    UserError
        When a sentence is longer than the model allows; the message names its line.
    """
    for place, sentence in enumerate(sentences):
        if len(sentence) > MAX_POSITIONS:
            line = (places[place] if places else place) + 1
            raise UserError(
                f"line {line} has {len(sentence)} subwords, its end mark included, and the model takes {MAX_POSITIONS};"
                " split or remove it"
            )
    order = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))
    output = _Output(network, weights, symbols, search.beam)
    found: list[Tensor] = [torch.empty(0, dtype=torch.int64)] * len(sentences)
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        with torch.no_grad():
            batch = _Batch(network, weights, symbols, search, output, [sentences[place] for place in chosen])
            for place, translation in zip(chosen, batch.translations(), strict=True):
                found[place] = translation
    return found


class _Output:
    """Output projection, and top-k search over the vocabulary.

    The vocabulary is arranged in `span` rows; the best candidates are in the columns with the largest maxima, so only
    those columns are ranked.
    """

    def __init__(self, network: LeanTransformer, weights: Weights, symbols: Symbols, beam: int) -> None:
        table = weights[network.target_table]
        self.candidates = 2 * beam
        self.span = max(1, min(32, len(table) // (4 * beam)))
        self.columns = max(-(-len(table) // self.span), self.candidates)
        added, self.last = self.span * self.columns - len(table), len(table) - 1
        self.table = F.pad(table, (0, 0, 0, added))
        self.bias = torch.zeros(len(self.table), device=table.device)
        self.bias[len(table) :] = -math.inf
        self.padding = symbols.padding
        self._offsets = torch.arange(self.span, device=table.device) * self.columns

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (rows, words) and their log-sum-exp (rows, 1)."""
        logits = F.linear(x, self.table, self.bias)
        total = logits.logsumexp(1, keepdim=True)
        logits[:, self.padding] = -math.inf  # in the normalisation, but never chosen (fairseq)
        return logits, total

    def best(self, logits: Tensor, added: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Best continuations of each sentence, best first: score, beam and word, each (sentences, 2 · beam).

        Parameters
        ----------
        logits
            (sentences · beam, words).
        added
            (sentences, beam); a logit plus this is the score of the hypothesis.
        """
        sentences, beam = added.shape
        highest = logits.view(-1, self.span, self.columns).amax(1).view(sentences, beam, -1) + added[:, :, None]
        top = highest.flatten(1).topk(self.candidates).indices
        beams, columns = top // self.columns, top % self.columns
        places = columns[:, :, None] + self._offsets
        scores = logits.view(sentences, -1).gather(1, (beams[:, :, None] * logits.shape[1] + places).flatten(1))
        scores, chosen = (scores + added.gather(1, beams).repeat_interleave(self.span, 1)).topk(self.candidates)
        return scores, beams.gather(1, chosen // self.span), places.flatten(1).gather(1, chosen).clamp(max=self.last)


class _Batch:
    """Sentences decoded together, step by step.

    Shapes: n unfinished sentences, b beams, t completed steps, h heads, d dimensions per head.

    Attributes
    ----------
    keys, values
        Cache of the decoder's self-attention, (n, h, steps · b, d) per layer; step t is at t·b … t·b + b − 1.
    unseen
        (n, b, steps · b): 0 at the cache entries that a beam descends from, −∞ elsewhere.
    """

    def __init__(
        self,
        network: LeanTransformer,
        weights: Weights,
        symbols: Symbols,
        search: Search,
        output: _Output,
        sentences: Sequence[Tensor],
    ) -> None:
        self.network, self.weights, self.symbols, self.search, self.output = network, weights, symbols, search, output
        self.beam, self.device = search.beam, network.device
        count = len(sentences)
        limits = [search.limit(len(sentence)) for sentence in sentences]
        source = torch.nn.utils.rnn.pad_sequence(sentences, batch_first=True, padding_value=symbols.padding)
        source = source.to(self.device)
        self.hidden = hidden_padding(source, symbols.padding)
        encoded = network.encode(weights, source, self.hidden)
        self.memory = [
            network.keys_and_values(weights, f"decoder.layers.{layer}.encoder_attn", encoded)
            for layer in range(network.depth)
        ]
        size = (count, network.heads, FIRST_STEPS * self.beam, network.width // network.heads)
        self.keys = [encoded.new_empty(size) for _ in range(network.depth)]
        self.values = [encoded.new_empty(size) for _ in range(network.depth)]
        self.unseen = encoded.new_full((count, self.beam, FIRST_STEPS * self.beam), -math.inf)
        self.own = encoded.new_full((self.beam, self.beam), -math.inf).fill_diagonal_(0)
        self.longest = max(limits)
        self.limits = torch.tensor(limits, device=self.device)
        self.places = torch.arange(count, device=self.device)
        self.words = source.new_full((count, self.beam, self.longest), symbols.padding)
        self.scores = encoded.new_full((count, self.beam), -math.inf)
        self.scores[:, 0] = 0  # all beams start as the same hypothesis
        self.ended = source.new_zeros(count)
        self.best_score = encoded.new_full((count,), -math.inf)
        self.best_words = source.new_full((count, self.longest), symbols.padding)
        self.best_length = source.new_zeros(count)

    def translations(self) -> list[Tensor]:
        """Decode; return the best hypothesis of each sentence."""
        last = torch.full((len(self.places) * self.beam, 1), self.symbols.end, device=self.device)
        for step in range(self.longest + 1):
            logits, total = self.output.logits(self._decoded(last, step))
            if step == 0:
                logits[:, self.symbols.end] = -math.inf  # a translation has at least one word (fairseq)
            if not self._advance(logits, total, step):
                break
            last = self.words[:, :, step].reshape(-1, 1)
        words, lengths = self.best_words.cpu(), self.best_length.tolist()
        return [row[:length].clone() for row, length in zip(words, lengths, strict=True)]

    def _advance(self, logits: Tensor, total: Tensor, step: int) -> bool:
        """Choose the words of a step; return False when every sentence is finished.

        A hypothesis that ends among the best b of 2b candidates is complete; after b complete hypotheses the sentence
        is finished. The best b that do not end continue. At the length limit every hypothesis ends.
        """
        at_limit = self.limits == step
        added = self.scores - total.view(-1, self.beam)
        scores, beams, words = self.output.best(logits, added)
        ends = (words == self.symbols.end) & (scores > -math.inf)
        here = ends[:, : self.beam]
        first = here.long().argmax(1, keepdim=True)
        ending, parent = scores.gather(1, first).where(here.any(1, keepdim=True), -math.inf), beams.gather(1, first)
        if bool(at_limit.any()):
            forced, row = (logits[:, self.symbols.end].view(-1, self.beam) + added).max(1, keepdim=True)
            ending, parent = torch.where(at_limit[:, None], forced, ending), row.where(at_limit[:, None], parent)
        self._complete(ending[:, 0] / (step + 1) ** self.search.length_penalty, parent, step)
        self.ended += here.sum(1)
        done = (self.ended >= self.beam) | at_limit
        if bool(done.all()):
            return False
        # Continue with the best candidates that do not end.
        chosen = (ends * self.output.candidates + torch.arange(self.output.candidates, device=self.device)).argsort(1)
        chosen = chosen[:, : self.beam]
        parents = beams.gather(1, chosen)
        self.scores = scores.gather(1, chosen)
        self.words[:, :, :step] = self.words[:, :, :step].gather(1, parents[:, :, None].expand(-1, -1, step))
        self.words[:, :, step] = words.gather(1, chosen)
        used = (step + 1) * self.beam
        self.unseen[:, :, :used] = self.unseen[:, :, :used].gather(1, parents[:, :, None].expand(-1, -1, used))
        self.ended[done] = self.beam
        self.best_score[self.places[done]] = math.inf  # accept no further hypotheses
        if int(done.sum()) >= FINISHED_SHARE * len(done):
            self._keep((~done).nonzero()[:, 0], used)
        return True

    def _complete(self, score: Tensor, parent: Tensor, step: int) -> None:
        """Record hypotheses that end at this step if they are the best so far; `score` has shape (n,)."""
        better = score > self.best_score[self.places]
        if not bool(better.any()):
            return
        at = self.places[better]
        self.best_score[at] = score[better]
        self.best_length[at] = step
        chosen = self.words[better].gather(1, parent[better][:, :, None].expand(-1, -1, self.longest))
        self.best_words[at] = chosen[:, 0]

    def _keep(self, rows: Tensor, used: int) -> None:
        """Continue with the sentences in `rows` only."""

        def past(cache: Tensor) -> Tensor:
            kept = cache.new_empty((len(rows), *cache.shape[1:]))
            kept[:, :, :used] = cache[:, :, :used].index_select(0, rows)
            return kept

        self.keys, self.values = [past(each) for each in self.keys], [past(each) for each in self.values]
        self.memory = [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in self.memory]
        self.hidden = None if self.hidden is None else self.hidden.index_select(0, rows)
        for name in ("unseen", "limits", "places", "words", "scores", "ended"):
            setattr(self, name, getattr(self, name).index_select(0, rows))

    def _decoded(self, last: Tensor, step: int) -> Tensor:
        """Decoder outputs at a step, (n · b, width)."""
        network, weights, count = self.network, self.weights, len(self.places)
        used = (step + 1) * self.beam
        if used > self.unseen.shape[2]:
            self._make_room()
        self.unseen[:, :, used - self.beam : used] = self.own
        x = network.embed(weights[network.target_table], last, network.positions[step])
        x = x.view(count, self.beam, network.width)
        for layer, memory in enumerate(self.memory):
            name = f"decoder.layers.{layer}"
            projected = network.project(weights, f"{name}.self_attn", "qkv", x)
            query, key, value = projected.view(count, self.beam, 3, network.heads, -1).permute(2, 0, 3, 1, 4)
            self.keys[layer][:, :, used - self.beam : used] = key
            self.values[layer][:, :, used - self.beam : used] = value
            unseen = self.unseen[:, None, :, :used] if self.beam > 1 else None
            found = _attend(query, self.keys[layer][:, :, :used], self.values[layer][:, :, :used], unseen)
            branch = network.output(weights, f"{name}.self_attn", found)
            x = network.normalise(weights, f"{name}.self_attn_layer_norm", x + branch)
            query = network.split(network.project(weights, f"{name}.encoder_attn", "q", x))
            branch = network.output(weights, f"{name}.encoder_attn", _attend(query, *memory, self.hidden))
            x = network.normalise(weights, f"{name}.encoder_attn_layer_norm", x + branch)
            x = network.normalise(weights, f"{name}.final_layer_norm", x + network.feed_forward(weights, name, x))
        return x.view(-1, network.width)

    def _make_room(self) -> None:
        """Double the capacity of the cache."""

        def doubled(cache: Tensor) -> Tensor:
            return torch.cat([cache, torch.empty_like(cache)], 2)

        self.keys, self.values = [doubled(each) for each in self.keys], [doubled(each) for each in self.values]
        self.unseen = torch.cat([self.unseen, torch.full_like(self.unseen, -math.inf)], 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
    """Scaled dot-product attention, by plain matrix products, for few queries."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if hidden is not None:
        scores += hidden
    return scores.softmax(-1) @ value
