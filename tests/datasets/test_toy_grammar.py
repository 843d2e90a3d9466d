"""Generated corpus: deterministic, with disjoint held-out text, and grammatical in the difficult constructions."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from three_regime.datasets.corpora import SPLITS
from three_regime.datasets.registry import DATASETS
from three_regime.datasets.toy_grammar import LONGEST, SHORTEST, Pair, sentences

NOWHERE = Path("nowhere")
TOY = DATASETS["toy"]


@pytest.fixture(scope="module")
def toy() -> dict[str, list[Pair]]:
    return {split: list(TOY.read(NOWHERE, split)) for split in SPLITS}


def test_sizes_are_the_registered_ones(toy: dict[str, list[Pair]]) -> None:
    assert {split: len(pairs) for split, pairs in toy.items()} == {
        "train": TOY.train_pairs,
        "validation": TOY.validation_pairs,
        "test": TOY.test_pairs,
    }


def test_generated_text_is_the_same_at_every_call(toy: dict[str, list[Pair]]) -> None:
    assert list(TOY.read(NOWHERE, "validation")) == toy["validation"]
    assert list(itertools.islice(TOY.read(NOWHERE, "train"), 50)) == toy["train"][:50]
    assert toy["train"][0] == ("Wir nehmen oft das Bild nicht.", "We do not take the picture often.")


def test_no_held_out_sentence_is_trained_on(toy: dict[str, list[Pair]]) -> None:
    for side in (0, 1):
        seen = {pair[side] for pair in toy["train"]}
        held_out = [pair[side] for split in ("validation", "test") for pair in toy[split]]
        assert side == 1 or len(set(held_out)) == len(held_out)
        share = sum(sentence in seen for sentence in held_out) / len(held_out)
        assert share == 0 if side == 0 else share < 0.02


def test_a_german_sentence_has_one_translation(toy: dict[str, list[Pair]]) -> None:
    found: dict[str, set[str]] = {}
    for german, english in itertools.chain(*toy.values()):
        found.setdefault(german, set()).add(english)
    assert {len(translations) for translations in found.values()} == {1}


def test_vocabulary_and_lengths_suit_a_small_model(toy: dict[str, list[Pair]]) -> None:
    words = [{word for pair in toy["train"] for word in re.findall(r"\w+", pair[side].lower())} for side in (0, 1)]
    assert 150 <= len(words[1]) < len(words[0]) <= 400
    held_out = [{word for pair in toy["test"] for word in re.findall(r"\w+", pair[side].lower())} for side in (0, 1)]
    assert all(ours <= theirs for ours, theirs in zip(held_out, words, strict=True))
    lengths = [len(german.split()) for german, _ in toy["train"]]
    assert (min(lengths), max(lengths)) == (SHORTEST, LONGEST)


@pytest.mark.parametrize(
    ("pattern", "translation"),
    [
        (r", (weil|wenn) .* (anschaut|mitbringt|aufhebt)\.$", r"(because|when) .*(looks? at|brings? along|picks? up)"),
        (r"^Der \w+ (schaut|bringt|hebt) .* (an|mit|auf)\.$", r"^The .*(looks? at|brings? along|picks? up)"),
        (r"^(Heute|Oft) (hat|haben) .* ge\w+\.$", r"^(Today|Often) .* (has|have) "),
        (r", (kann|können) .* \w+en\.$", r", .* can "),
        (r"^(Sieht|Sehen) .*\?$", r"^(Does|Do) .* see .*\?$"),
        (r"nicht", r"\bnot\b"),
        (r"\bkein(e|en)?\b", r"\bno\b"),
        (r"\b(neben|hinter) (dem|der|den) (kleinen|großen) ", r"(next to|behind) the (small|big) "),
        (r"\beinen alten (Apfel|Stuhl|Schlüssel|Brief)\b", r"\ban old (apple|chair|key|letter)\b"),
        (r"\bein altes (Buch|Bild|Fahrrad)\b", r"\ban old (book|picture|bicycle)\b"),
        (r"\bzwei kleine \w+", r"\btwo small \w+s\b|children|men|women"),
        (r"\bdass (er|sie) .* (muss|müssen)\b", r"that (he|she|they) .*\b(has|have) to\b"),
    ],
)
def test_constructions_occur_and_are_translated(toy: dict[str, list[Pair]], pattern: str, translation: str) -> None:
    found = [english for german, english in toy["train"] if re.search(pattern, german)]
    assert len(found) >= 10
    assert all(re.search(translation, english) for english in found), found[:5]


def test_gender_number_and_case_agree(toy: dict[str, list[Pair]]) -> None:
    text = " ".join(german for german, _ in toy["train"]).lower()
    for wrong in ("die mann", "der frau sieht", "das hund", "ein frau", "eine hund", "den kirche", "ein kleine hund",
                  "der kleiner", "das kleines", "einen kleines", "neben die", "neben das", "im kirche", "in dem ",
                  "zwei kleinen blumen sehen", "wir sieht", "er sehen", "mitgebringt"):  # fmt: skip
        assert not re.search(rf"\b{wrong}\b", text), wrong


def test_streams_differ(toy: dict[str, list[Pair]]) -> None:
    first = [list(itertools.islice(sentences(stream), 20)) for stream in ("one", "two", "one")]
    assert first[0] == first[2] != first[1]
