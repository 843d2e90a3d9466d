"""Prepare a parallel corpus: clean it, split it into subwords, and binarise it in fairseq's format.

The folder ``<data>/<name>-<pairs>-<subwords>/`` holds, for each split and language, ``<split>.de-en.<language>.bin``
and ``.idx`` (fairseq's memory-mapped format), ``dict.txt`` (fairseq's dictionary, joint), ``subwords.model``
(sentencepiece), the original text of validation and test, and, written last, ``prepared.safetensors``: numbers of pairs
and the SHA-256 of every other file, so its tensor digest identifies the whole data set.

Text is streamed; only fairseq's index grows with the corpus, by some tens of bytes per pair.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from three_regime.datasets.aligned_text import MissingFileError
from three_regime.datasets.corpora import HELD_OUT, SPLITS, ParallelCorpus
from three_regime.errors import UserError
from three_regime.preparation.cleaning import Limits, fault, normalised
from three_regime.preparation.subwords import SPECIAL, TooManySubwordsError, learn, load, sampled
from three_regime.study import provenance
from three_regime.study.fingerprints import fingerprint_of, stored_fingerprint
from three_regime.study.results import FINGERPRINT_KEY
from three_regime.system.file_locks import exclusively
from three_regime.system.files import PROVENANCE_KEY, disk_errors, file_digest, write_arrays

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

    from three_regime.config import DatasetChoice

log = logging.getLogger(__name__)

MODEL = "subwords.model"
DICTIONARY = "dict.txt"
CLEANING_KEY = "cleaning"
LANGUAGES_KEY = "languages"
BATCH = 1_000
"""Number of pairs held in memory at a time."""

Pair = tuple[str, str]
IdPair = tuple[list[int], list[int]]


def binary_name(entry: ParallelCorpus, split: str, language: str) -> str:
    """Stem of the binary files of a split and language, without ``.bin`` and ``.idx``."""
    return f"{split}.{'-'.join(entry.languages)}.{language}"


def prepare(choice: DatasetChoice, manifest: Path, raw: Path, recipe: dict[str, Any]) -> None:
    """Prepare the files below `raw` into the folder of `manifest`.

    Everything is written to a folder beside it and moved at the end, so earlier data stay until then.

    Parameters
    ----------
    recipe
        Settings in the fingerprint (`three_regime.preparation.prepare`).

    Raises
    ------
    UserError
        When a raw file is missing, misaligned or not UTF-8, the vocabulary is empty or does not suit the text, fewer
        pairs remain than requested, or the disk is full.
    """
    with disk_errors(manifest.parent):
        _prepare(choice, manifest, raw, recipe)


def _prepare(choice: DatasetChoice, manifest: Path, raw: Path, recipe: dict[str, Any]) -> None:
    entry = choice.entry
    began = time.monotonic()
    manifest.parent.mkdir(parents=True, exist_ok=True)
    staging = manifest.parent.with_name(f".{manifest.parent.name}.preparing")
    with exclusively(
        manifest.parent.with_name(f".{manifest.parent.name}.lock"),
        f"another process is preparing {manifest}; waiting for it",
    ):
        fingerprint = fingerprint_of(recipe, {})
        if stored_fingerprint(manifest) == fingerprint:  # another process has prepared it meanwhile
            log.info("%s is up to date", manifest)
            return
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            report = _write_files(entry, choice, raw, staging)
            arrays = {"pairs": np.array([report.pairs[split] for split in SPLITS], dtype=np.int64)}
            for path in sorted(staging.iterdir()):
                arrays[f"sha256/{path.name}"] = np.frombuffer(bytes.fromhex(file_digest(path)), dtype=np.uint8)
            manifest.unlink(missing_ok=True)
            for path in sorted(staging.iterdir()):
                os.replace(path, manifest.with_name(path.name))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        record = provenance.record(
            fingerprint=fingerprint,
            recipe=recipe,
            inputs={},
            device="cpu",
            threads=1,
            wall_s=time.monotonic() - began,
        )
        cleaning = {"read": report.read, "dropped": dict(report.dropped), "tokens": report.tokens}
        metadata = {
            FINGERPRINT_KEY: fingerprint,
            PROVENANCE_KEY: json.dumps(record),
            CLEANING_KEY: json.dumps(cleaning),
            LANGUAGES_KEY: "-".join(entry.languages),
        }
        write_arrays(manifest, arrays, metadata)


@dataclass
class _Report:
    """Counts: pairs by split, training pairs read and dropped, training tokens by language."""

    pairs: dict[str, int] = field(default_factory=dict)
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, int] = field(default_factory=dict)


def _write_files(entry: ParallelCorpus, choice: DatasetChoice, raw: Path, folder: Path) -> _Report:
    report = _Report()
    held_out = {split: _held_out(entry, split, raw) for split in HELD_OUT}  # first, to fail early
    model = _vocabulary(entry, choice, raw)
    (folder / MODEL).write_bytes(model)
    processor = load(model)
    limits = Limits(choice.max_tokens, choice.ratio)
    train = _cleaned(_encoded(_read(entry, raw, "train"), processor), limits, report)
    counts = _binarise(entry, "train", itertools.islice(train, choice.train_pairs), folder, processor, report)
    found, wanted = report.pairs["train"], choice.train_pairs or 1
    if found < wanted:
        raise UserError(
            f"{entry.name} has {found:,} training pairs after cleaning, {wanted:,} are requested ({_spoken(report)})"
        )
    log.info("%s: %s training pairs; %s", entry.name, f"{report.pairs['train']:,}", _spoken(report))
    _write_dictionary(folder / DICTIONARY, processor, counts)
    for split, pairs in held_out.items():
        for language, lines in zip(entry.languages, zip(*pairs, strict=True), strict=True):
            (folder / f"{split}.{language}").write_bytes("".join(f"{line}\n" for line in lines).encode())
        _binarise(entry, split, _encoded(pairs, processor), folder, processor, report)
    return report


def _read(entry: ParallelCorpus, raw: Path, split: str) -> Iterator[Pair]:
    """Yield the pairs of a split; at its end, raise if their number is not the published one."""
    number, published = 0, getattr(entry, f"{split}_pairs")
    try:
        for pair in entry.read(raw, split):
            yield pair
            number += 1
    except MissingFileError as error:
        raise UserError(
            f"{error}: put it there, or have it downloaded (target `data`) if the data set has an address"
        ) from error
    if published is not None and number != published:
        raise UserError(f"{entry.name} has {number:,} pairs of split {split} instead of {published:,}")


def _held_out(entry: ParallelCorpus, split: str, raw: Path) -> list[Pair]:
    pairs = list(_read(entry, raw, split))
    if not pairs:
        raise UserError(f"{entry.name} has no pairs of split {split}")
    for number, pair in enumerate(pairs, 1):
        if any("\n" in line for line in pair):  # the text of a split has one sentence per line
            raise UserError(
                f"{entry.name}: pair {number:,} of split {split} holds a line break: its reader must join it"
            )
    return pairs


def _vocabulary(entry: ParallelCorpus, choice: DatasetChoice, raw: Path) -> bytes:
    """Train the sentencepiece model; the default number of subwords is lowered to what the text allows."""
    size = choice.subwords
    while True:
        try:
            return learn(_vocabulary_text(entry, choice, raw), size, entry.name)
        except TooManySubwordsError as error:
            if choice.subwords != choice.setting.dataset_defaults["subwords"]:
                raise
            size = error.largest
            log.info("%s does not allow the default of %d subwords: using %d", entry.name, choice.subwords, size)


def _vocabulary_text(entry: ParallelCorpus, choice: DatasetChoice, raw: Path) -> Iterator[str]:
    """Sentences to learn the vocabulary from: of as many pairs as training will have."""
    totals = [total for total in (choice.train_pairs, entry.train_pairs) if total is not None]
    pairs = itertools.islice(_read(entry, raw, "train"), choice.train_pairs)
    for line in sampled(pairs, min(totals, default=None)):
        if text := normalised(line):
            yield text


def _encoded(pairs: Iterable[Pair], processor: SentencePieceProcessor) -> Iterator[IdPair]:
    """Normalise and encode pairs as subword indices, without the end-of-sentence token."""
    remaining = iter(pairs)
    while batch := list(itertools.islice(remaining, BATCH)):
        sides = [processor.encode([normalised(pair[side]) for pair in batch], num_threads=1) for side in (0, 1)]
        yield from zip(*sides, strict=True)


def _cleaned(pairs: Iterable[IdPair], limits: Limits, report: _Report) -> Iterator[IdPair]:
    for source, target in pairs:
        report.read += 1
        if reason := fault(len(source), len(target), limits):
            report.dropped[reason] += 1
        else:
            yield source, target


def _binarise(
    entry: ParallelCorpus,
    split: str,
    pairs: Iterable[IdPair],
    folder: Path,
    processor: SentencePieceProcessor,
    report: _Report,
) -> Counter[int]:
    """Write fairseq's files of a split; return subword counts."""
    import torch
    from fairseq.data.indexed_dataset import make_builder

    paths = [str(folder / binary_name(entry, split, language)) for language in entry.languages]
    size = processor.get_piece_size()
    builders = [make_builder(f"{path}.bin", "mmap", vocab_size=size) for path in paths]
    counts: Counter[int] = Counter()
    number, tokens = 0, [0, 0]
    for pair in pairs:
        number += 1
        for side, ids in enumerate(pair):
            item = torch.tensor([*ids, processor.eos_id()])
            builders[side].add_item(item)
            counts.update(ids)
            tokens[side] += len(ids)
    for builder, path in zip(builders, paths, strict=True):
        builder.finalize(f"{path}.idx")
    report.pairs[split] = number
    if split == "train":
        report.tokens = dict(zip(entry.languages, tokens, strict=True))
    return counts


def _write_dictionary(path: Path, processor: SentencePieceProcessor, counts: Counter[int]) -> None:
    """Write fairseq's dictionary file: one subword and count per line; special symbols are implied."""
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    assert tuple(pieces[: len(SPECIAL)]) == SPECIAL
    lines = [f"{piece} {counts[number]}\n" for number, piece in enumerate(pieces)]
    path.write_text("".join(lines[len(SPECIAL) :]), encoding="utf-8", newline="\n")


def _spoken(report: _Report) -> str:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.dropped.items()))
    return f"{report.read:,} pairs were read and {report.dropped.total():,} dropped" + (
        f": {dropped}" if dropped else ""
    )
