"""Translating with a network: beam search by fairseq, in batches that change no sentence's translation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModelBase
from fairseq.sequence_generator import SequenceGenerator
from torch import Tensor

from three_regime.errors import UserError
from three_regime.models.transformer import MAX_POSITIONS


@dataclass(frozen=True)
class Search:
    """How a translation is searched for.

    Attributes
    ----------
    beam
        Hypotheses kept; 1 is greedy.
    length_penalty
        Exponent of the length by which a hypothesis's log-probability is divided.
    factor, extra
        A translation has at most factor · source tokens + extra tokens, end marks counted (this project's choice).
    """

    beam: int = 4
    length_penalty: float = 0.6
    factor: float = 2.0
    extra: int = 10


DEFAULT_SEARCH = Search()


def translate(
    model: TransformerModelBase,
    weights: Mapping[str, Tensor],
    dictionary: Dictionary,
    sentences: Sequence[Tensor],
    search: Search,
    *,
    places: Sequence[int] | None = None,
    batch_size: int = 64,
) -> list[Tensor]:
    """Translations of sentences, in their order, each without its end mark.

    A batch holds sentences of one length: there is no padding, and the limit on the length of a translation depends on
    its own sentence alone.

    Parameters
    ----------
    model
        The skeleton; it takes `weights` over.
    sentences
        Token numbers, the end mark last; (length,) int64 each.
    places
        Line of each sentence in its file, from 0, for the error message; None counts them.
    batch_size
        Sentences decoded together.

    Raises
    ------
    UserError
        When a sentence is longer than the model allows, naming its place.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, sentence in enumerate(sentences):
        if len(sentence) > MAX_POSITIONS:
            line = (places[place] if places else place) + 1
            raise UserError(
                f"line {line} has {len(sentence)} subwords, its end mark included, and the model takes {MAX_POSITIONS};"
                " split it or leave it out"
            )
        by_length[len(sentence)].append(place)
    parameters = dict(model.named_parameters())
    device = next(iter(parameters.values())).device
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    found: list[Tensor] = [torch.empty(0, dtype=torch.int64)] * len(sentences)
    for length, members in sorted(by_length.items()):
        generator = SequenceGenerator(
            [model],
            dictionary,
            beam_size=search.beam,
            len_penalty=search.length_penalty,
            max_len_b=min(int(search.factor * length + search.extra), MAX_POSITIONS - 1),
        )
        for first in range(0, len(members), batch_size):
            chosen = members[first : first + batch_size]
            source = torch.stack([sentences[place] for place in chosen]).to(device)
            lengths = torch.full((len(chosen),), length, device=device)
            hypotheses = generator.generate([model], {"net_input": {"src_tokens": source, "src_lengths": lengths}})
            for place, ranked in zip(chosen, hypotheses, strict=True):
                found[place] = ranked[0]["tokens"][:-1].cpu()
    return found
