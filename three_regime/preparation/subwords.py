"""Joint subword vocabulary of a corpus: byte-pair encoding, trained reproducibly by sentencepiece."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from three_regime.errors import UserError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SAMPLE_PAIRS = 1_000_000
"""Maximum number of pairs to learn the vocabulary from; bounds memory (this project's choice)."""

LARGE = 8_000
"""Vocabulary size from which rare characters are encoded as bytes; below, every character is a subword."""

LARGE_COVERAGE = 0.9999
"""Fraction of the text's characters that are subwords of a large vocabulary; the rest are encoded as bytes."""

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""The first subwords, in fairseq's order, so indices agree."""


def sampled(pairs: Iterable[tuple[str, str]], total: int | None) -> Iterator[str]:
    """Both sides of every k-th pair, with the smallest k that gives at most `SAMPLE_PAIRS` of `total`.

    If `total` is unknown, of the first `SAMPLE_PAIRS`.
    """
    step = max(1, -(-(total or 0) // SAMPLE_PAIRS))
    left = SAMPLE_PAIRS
    for number, pair in enumerate(pairs):
        if number % step == 0:
            yield from pair
            left -= 1
        if not left:
            return


class TooManySubwordsError(UserError):
    """The text allows at most `largest` subwords."""

    def __init__(self, message: str, largest: int) -> None:
        super().__init__(message)
        self.largest = largest


def learn(sentences: Iterable[str], size: int, name: str) -> bytes:
    """Train a sentencepiece model of exactly `size` subwords, including `SPECIAL`.

    The result depends only on the sentences: one thread, no sampling by sentencepiece, no path in the model. Text is
    not normalised, so decoding inverts encoding.

    Parameters
    ----------
    name
        Name of the corpus, for messages.

    Raises
    ------
    TooManySubwordsError
        When the text is too short for that many subwords.
    UserError
        When there is no text, or it has more distinct characters than subwords.

    Exceptions of `sentences` are passed on.
    """
    import sentencepiece

    model = io.BytesIO()
    large = size >= LARGE
    failures: list[BaseException] = []

    def watched() -> Iterator[str]:
        # sentencepiece replaces an exception of its iterator, even a signal's, by a RuntimeError.
        try:
            yield from sentences
        except BaseException as error:
            failures.append(error)
            raise

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=watched(),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            byte_fallback=large,
            character_coverage=LARGE_COVERAGE if large else 1.0,
            normalization_rule_name="identity",
            input_sentence_size=0,
            max_sentence_length=2**30,  # bytes; longer sentences would be left out silently
            shuffle_input_sentence=False,
            num_threads=1,
            bos_id=0,
            pad_id=1,
            eos_id=2,
            unk_id=3,
            minloglevel=2,
        )
    except RuntimeError as error:
        if failures:
            raise failures[0] from None
        raise _explained(str(error), size, name) from error
    return model.getvalue()


def load(model: bytes) -> SentencePieceProcessor:
    """The processor of a model from `learn`; subword indices are those of fairseq's dictionary."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=model)


def _explained(message: str, size: int, name: str) -> UserError:
    if match := re.search(r"too high \(\d+\)\D*<= (\d+)", message):
        told = f"subwords: {size} is too large for the text of {name}; the largest possible value is {match[1]}"
        return TooManySubwordsError(told, int(match[1]))
    if match := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"subwords: {size} is too small for the characters of {name}; the smallest possible value is {match[1]}"
        )
    if "sentences_.empty()" in message:
        return UserError(f"the vocabulary of {name} would be empty: after cleaning it holds no training text")
    return UserError(f"subwords: no vocabulary of {size} could be learnt from {name}: {message}")
