"""A hand-made corpus and a tiny translation task on it, without downloads, subword models or files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import Dictionary
from torch import Tensor

from benchmarks.translation import Sentences
from three_regime.config import Training
from three_regime.tasks.translation.beam_search import Search
from three_regime.tasks.translation.task import Translation

MODEL = "transformer-1x16x2"
WORDS = 30


@dataclass(frozen=True)
class SmallText:
    """Random sentences; the translation is the reversed source, each word replaced by the next in the vocabulary."""

    dictionary: Dictionary
    splits: dict[str, Sentences]
    folder: Path = field(default=Path("small"))
    languages: tuple[str, str] = ("de", "en")

    def pairs(self, split: str) -> Sentences:
        return self.splits[split]

    def sources(self, split: str) -> list[str]:
        return [self.decode(line.tolist()) for line in self.splits[split].source]

    def references(self, split: str) -> list[str]:
        return [self.decode(line.tolist()) for line in self.splits[split].target]

    def encode(self, line: str) -> Tensor:
        return self.dictionary.encode_line(line, add_if_not_exist=False).long()

    def decode(self, ids: list[int]) -> str:
        return self.dictionary.string(ids)


def small_text(pairs: int = 60, words: int = WORDS, longest: int = 9) -> SmallText:
    dictionary = Dictionary()
    for number in range(words):
        dictionary.add_symbol(f"w{number}")
    generator = np.random.default_rng(7)
    splits = {}
    for split, count in (("train", pairs), ("validation", 20), ("test", 10)):
        drawn = [generator.integers(0, words, size=generator.integers(2, longest)) for _ in range(count)]
        first = dictionary.nspecial
        splits[split] = Sentences(
            [torch.tensor([*(first + line), dictionary.eos()]) for line in drawn],
            [torch.tensor([*(first + (line[::-1] + 1) % words), dictionary.eos()]) for line in drawn],
        )
    return SmallText(dictionary, splits)


def small_task(text: SmallText | None = None, model: str = MODEL, **options: Any) -> Translation:
    return Translation(text or small_text(), model, torch.device("cpu"), **{"search": Search(extra=3), **options})


def text_training(**changes: Any) -> Training:
    settings = {
        "optimiser": "adam",
        "learning_rate": 0.005,
        "betas": (0.9, 0.98),
        "epsilon": 1e-9,
        "epsilon_placement": "fairseq",
        "weight_decay": 0.0,
        "batch_size": 60,
        "epochs": 3,
        "schedule": "inverse_sqrt",
        "warmup": 4,
        "accumulate": 2,
        "clip_norm": 1.0,
        "dropout": 0.1,
        "label_smoothing": 0.1,
    }
    return Training.model_validate({**settings, **changes})
