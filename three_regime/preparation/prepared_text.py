"""Read a prepared corpus: fairseq's dictionary and memory-mapped files, and the reference text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from three_regime.datasets.corpora import MANIFEST, SPLITS
from three_regime.errors import UserError
from three_regime.preparation.cleaning import normalised
from three_regime.preparation.parallel_text import DICTIONARY, LANGUAGES_KEY, MODEL
from three_regime.preparation.subwords import SPECIAL, load
from three_regime.system.files import file_digest, read_arrays, read_metadata

if TYPE_CHECKING:
    import torch
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import MMapIndexedDataset
    from sentencepiece import SentencePieceProcessor


@dataclass(frozen=True)
class Pairs:
    """A split in the form of fairseq's ``LanguagePairDataset``.

    Attributes
    ----------
    source, target
        Sequences of int64 tensors (length,), each ending in ``</s>``; memory-mapped.
    """

    source: MMapIndexedDataset
    target: MMapIndexedDataset

    def __len__(self) -> int:
        return len(self.source)

    @property
    def source_lengths(self) -> np.ndarray:
        """Number of tokens of each source sentence, including ``</s>``; (pairs,) int32."""
        return self.source.sizes

    @property
    def target_lengths(self) -> np.ndarray:
        """Number of tokens of each target sentence, including ``</s>``; (pairs,) int32."""
        return self.target.sizes


@dataclass(frozen=True)
class PreparedText:
    """A prepared corpus.

    Attributes
    ----------
    folder
        Folder of its files.
    languages
        Source and target language.
    sizes
        Split → number of pairs.
    dictionary
        Joint dictionary; a subword has the same index here and in `processor`.
    """

    folder: Path
    languages: tuple[str, str]
    sizes: dict[str, int]
    dictionary: Dictionary
    processor: SentencePieceProcessor

    def pairs(self, split: str) -> Pairs:
        """Open the binary files of a split: ``train``, ``validation`` or ``test``."""
        from fairseq.data.indexed_dataset import make_dataset

        prefix = self.folder / f"{split}.{'-'.join(self.languages)}"
        return Pairs(*(make_dataset(f"{prefix}.{language}", "mmap") for language in self.languages))

    def sources(self, split: str) -> list[str]:
        """Source sentences of ``validation`` or ``test``, as published.

        Raises
        ------
        UserError
            When the number of lines differs from the number of pairs.
        """
        return self._lines(split, self.languages[0])

    def references(self, split: str) -> list[str]:
        """Reference translations of ``validation`` or ``test``, as published: detokenised, for sacrebleu.

        See `sources` for errors.
        """
        return self._lines(split, self.languages[1])

    def encode(self, line: str) -> torch.Tensor:
        """Token indices of a sentence, ending in ``</s>``; (length,) int64."""
        import torch

        return torch.tensor([*self.processor.encode(normalised(line)), self.dictionary.eos()])

    def decode(self, ids: Iterable[int]) -> str:
        """Decode token indices to a sentence in one line, without subword marks and special symbols."""
        special = {self.dictionary.bos(), self.dictionary.pad(), self.dictionary.eos()}
        text = self.processor.decode([number for number in map(int, ids) if number not in special])
        # byte fallback of a poorly trained network can produce a line feed
        return text.replace("\n", " ")

    def _lines(self, split: str, language: str) -> list[str]:
        path = self.folder / f"{split}.{language}"
        lines = path.read_bytes().decode().removesuffix("\n").split("\n")
        if len(lines) != self.sizes[split]:  # otherwise sentences would be scored against wrong references
            raise UserError(
                f"{path} has {len(lines):,} lines, but split {split} has {self.sizes[split]:,} pairs; delete"
                f" {self.folder / MANIFEST} and prepare the data again"
            )
        return lines


def open_text(manifest: Path) -> PreparedText:
    """Open the prepared corpus of a manifest, after checking the digests of its files.

    Raises
    ------
    UserError
        When the manifest or a file is missing, or a file is damaged.
    """
    verify(manifest)
    from fairseq.data import Dictionary

    processor = load(manifest.with_name(MODEL).read_bytes())
    dictionary = Dictionary.load(str(manifest.with_name(DICTIONARY)))
    pieces = [processor.id_to_piece(number) for number in range(len(processor))]
    if dictionary.symbols != pieces or tuple(pieces[: len(SPECIAL)]) != SPECIAL:
        raise UserError(f"{manifest.with_name(DICTIONARY)} is not the dictionary of {MODEL}; prepare the data again")
    source, target = read_metadata(manifest)[LANGUAGES_KEY].split("-")
    sizes = dict(zip(SPLITS, read_arrays(manifest)["pairs"].tolist(), strict=True))
    return PreparedText(manifest.parent, (source, target), sizes, dictionary, processor)


def verify(manifest: Path) -> None:
    """Check every file beside `manifest` against its digest there (see `open_text` for errors)."""
    for name, digest in read_arrays(manifest).items():
        kind, _, file = name.partition("/")
        if kind != "sha256":
            continue
        path = manifest.with_name(file)
        if not path.is_file():
            raise UserError(f"{path} is missing; delete {manifest} and prepare the data again")
        if file_digest(path) != digest.tobytes().hex():
            raise UserError(f"{path} is damaged: it does not match its digest; delete {manifest} and prepare again")
