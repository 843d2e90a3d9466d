"""Text preparation: cleaning, subwords, binary files and reading; invalid input destroys nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import written_corpus
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from written_corpus import NAME, prepared, read, real, register

from three_regime.config import DatasetChoice
from three_regime.datasets import aligned_text
from three_regime.datasets.corpora import SPLITS
from three_regime.datasets.registry import DATASETS
from three_regime.errors import Interrupted, UserError
from three_regime.preparation import parallel_text, subwords
from three_regime.preparation.cleaning import normalised
from three_regime.preparation.prepare import chosen, is_intact, is_prepared, prepare, recipe
from three_regime.preparation.prepared_text import PreparedText, open_text
from three_regime.study.grid import prepared_path
from three_regime.system.files import DIGEST_KEY, read_metadata

TOY = {"train_pairs": 1500, "subwords": 400}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def toy(data: Path) -> PreparedText:
    return prepared(data, "toy", **TOY)


def manifest(data: Path, name: str = NAME, **settings: object) -> Path:
    return prepared_path(DatasetChoice(name=name, **settings), data)


def cleaning(path: Path) -> dict:
    return json.loads(read_metadata(path)["cleaning"])


def test_the_folder_is_readable_and_holds_fairseqs_files(toy: PreparedText, data: Path) -> None:
    assert toy.folder == data / "toy-1500-400"
    binary = {f"{split}.de-en.{side}.{end}" for split in SPLITS for side in ("de", "en") for end in ("bin", "idx")}
    text = {f"{split}.{side}" for split in ("validation", "test") for side in ("de", "en")}
    there = {path.name for path in toy.folder.iterdir()}
    assert there == binary | text | {"dict.txt", "subwords.model", "prepared.safetensors"}


def test_text_comes_back_from_its_tokens(toy: PreparedText) -> None:
    for split in ("validation", "test"):
        pairs = toy.pairs(split)
        assert [toy.decode(ids) for ids in pairs.source] == toy.sources(split)
        assert [toy.decode(ids) for ids in pairs.target] == toy.references(split)
        assert toy.encode(toy.sources(split)[7]).tolist() == pairs.source[7].tolist()


def test_training_pairs_are_the_first_that_pass_cleaning(toy: PreparedText) -> None:
    pairs = toy.pairs("train")
    found = [
        (toy.decode(german), toy.decode(english)) for german, english in zip(pairs.source, pairs.target, strict=True)
    ]
    report = cleaning(toy.folder / "prepared.safetensors")
    read_pairs = [pair for _, pair in zip(range(report["read"]), DATASETS["toy"].read(Path(), "train"), strict=False)]
    assert len(found) == 1500 == toy.sizes["train"] == report["read"] - sum(report["dropped"].values())
    kept = iter(read_pairs)
    assert all(pair in kept for pair in found)


def test_lengths_count_the_end_of_sentence(toy: PreparedText) -> None:
    pairs = toy.pairs("train")
    np.testing.assert_array_equal(pairs.target_lengths, [len(ids) for ids in pairs.target])
    assert all(int(ids[-1]) == toy.dictionary.eos() for ids in pairs.source)
    assert cleaning(toy.folder / "prepared.safetensors")["tokens"] == {
        "de": int(pairs.source_lengths.sum()) - len(pairs),
        "en": int(pairs.target_lengths.sum()) - len(pairs),
    }


def test_the_dictionary_is_fairseqs_and_counts_training_tokens(toy: PreparedText) -> None:
    dictionary = toy.dictionary
    assert len(dictionary) == 400
    assert (dictionary.bos(), dictionary.pad(), dictionary.eos(), dictionary.unk()) == (0, 1, 2, 3)
    pairs = toy.pairs("train")
    tokens = np.concatenate([ids.numpy() for side in (pairs.source, pairs.target) for ids in side])
    counts = np.bincount(tokens, minlength=400)
    assert counts[dictionary.unk()] == 0
    np.testing.assert_array_equal(counts[4:], dictionary.count[4:])


def test_fairseq_makes_batches_of_it(toy: PreparedText) -> None:
    from fairseq.data import LanguagePairDataset

    pairs = toy.pairs("validation")
    dataset = LanguagePairDataset(
        pairs.source, pairs.source_lengths, toy.dictionary, pairs.target, pairs.target_lengths, toy.dictionary
    )
    batch = dataset.collater([dataset[0], dataset[1]])
    assert batch["ntokens"] == pairs.target_lengths[:2].sum()
    assert batch["net_input"]["src_tokens"].shape == (2, pairs.source_lengths[:2].max())


def test_what_another_process_prepared_meanwhile_stays(toy: PreparedText, data: Path) -> None:
    """It was missing when this process looked, and there when it got the lock."""
    choice = DatasetChoice(name="toy", **TOY)
    path = prepared_path(choice, data)
    before = {each: each.stat().st_mtime_ns for each in toy.folder.iterdir()}
    choice.setting.prepare(choice, path, data / "raw" / "toy", recipe(choice))
    assert before == {each: each.stat().st_mtime_ns for each in toy.folder.iterdir()}


def test_prepared_once_and_the_same_anywhere(toy: PreparedText, data: Path, tmp_path: Path) -> None:
    choice = DatasetChoice(name="toy", **TOY)
    assert not prepare(choice, data)
    prepare(choice, tmp_path)
    digests = {read_metadata(prepared_path(choice, folder))[DIGEST_KEY] for folder in (data, tmp_path)}
    assert len(digests) == 1
    for path in toy.folder.iterdir():
        if path.name != "prepared.safetensors":
            assert path.read_bytes() == (tmp_path / toy.folder.name / path.name).read_bytes()


def test_other_limits_prepare_it_again_and_change_the_digest(tmp_path: Path) -> None:
    few = {"train_pairs": 300, "subwords": 200}
    before = read_metadata(prepared(tmp_path, "toy", **few).folder / "prepared.safetensors")
    choice = DatasetChoice(name="toy", **few, ratio=1.2)
    assert not is_prepared(choice, tmp_path)
    assert prepare(choice, tmp_path)
    after = read_metadata(prepared_path(choice, tmp_path))
    assert before[DIGEST_KEY] != after[DIGEST_KEY]
    assert json.loads(after["cleaning"])["dropped"]["ratio"] > json.loads(before["cleaning"])["dropped"].get("ratio", 0)


def test_cleaning_is_counted_and_held_out_text_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [(f"Das ist Satz  Nummer {k}.", f"This is sentence number {k}.") for k in range(30)]
    bad = [("", "Nothing."), ("Nichts.", "  \t"), ("wort " * 80, "word " * 80), ("Ja.", "This is a very long answer.")]
    held_out = [("  Scho\u0308n ", "Nice &amp; fine  "), ("", "Empty.")]
    register(monkeypatch, tmp_path, train=good + bad + good, validation=held_out)
    text = prepared(tmp_path, subwords=120, max_tokens=60)
    report = cleaning(text.folder / "prepared.safetensors")
    assert (report["read"], report["dropped"]) == (64, {"empty": 2, "too long": 1, "ratio": 1})
    assert text.sizes == {"train": 60, "validation": 2, "test": 2}
    assert text.decode(text.pairs("train").source[0]) == "Das ist Satz Nummer 0."
    assert text.sources("validation") == ["  Scho\u0308n ", ""]
    assert text.references("validation") == ["Nice &amp; fine  ", "Empty."]
    assert text.pairs("validation").source[1].tolist() == [text.dictionary.eos()]
    assert text.decode(text.encode("")) == ""


SENTENCES = [(f"Der Mann Nummer {k} geht.", f"The man number {k} walks.") for k in range(50)]


@pytest.mark.parametrize(
    ("train", "size", "message"),
    [
        (SENTENCES, 5000, r"subwords: 5000 is too large for the text of written; the largest possible value is \d+"),
        (SENTENCES, 12, r"subwords: 12 is too small for the characters of written; the smallest possible value is \d+"),
        ([("", " "), ("\t", "")], 100, "the vocabulary of written would be empty"),
        ([], 100, "the vocabulary of written would be empty"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: list, size: int, message: str
) -> None:
    register(monkeypatch, tmp_path, train=train)
    with pytest.raises(UserError, match=message) as error:
        prepared(tmp_path, subwords=size)
    if limit := re.search(r"value is (\d+)", str(error.value)):
        assert len(prepared(tmp_path, subwords=int(limit[1])).dictionary) == int(limit[1])


def test_too_few_pairs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tmp_path, train=[*SENTENCES, ("", "x")])
    with pytest.raises(UserError, match=r"50 training pairs after cleaning, 51 are requested \(51 pairs were read"):
        prepared(tmp_path, subwords=100, train_pairs=51)


def test_held_out_sets_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tmp_path, train=SENTENCES, test=[])
    with pytest.raises(UserError, match="written has no pairs of split test"):
        prepared(tmp_path, subwords=100)
    monkeypatch.setitem(DATASETS, NAME, replace(DATASETS[NAME], validation_pairs=3))
    with pytest.raises(UserError, match="written has 2 pairs of split validation instead of 3"):
        prepared(tmp_path, subwords=100)


def test_training_pairs_must_be_as_many_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tmp_path, train=SENTENCES)
    monkeypatch.setitem(DATASETS, NAME, replace(DATASETS[NAME], train_pairs=len(SENTENCES) + 5))
    with pytest.raises(UserError, match=f"written has {len(SENTENCES)} pairs of split train instead of"):
        prepared(tmp_path, subwords=100)


def test_long_sentences_are_in_the_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sentencepiece by default leaves out sentences of more than 4,192 bytes."""
    register(monkeypatch, tmp_path, train=[*SENTENCES, ("ξ " * 3_000, "xi " * 2_500)])
    text = prepared(tmp_path, subwords=100)
    assert text.dictionary.unk() not in text.encode("ξ ξ").tolist()


def test_bad_input_loses_nothing_that_was_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = register(monkeypatch, tmp_path, train=SENTENCES)
    text = prepared(tmp_path, subwords=100)
    before = {path.name: path.read_bytes() for path in text.folder.iterdir()}
    (raw / "train.en").write_text("one\n")
    with pytest.raises(UserError, match=r"train\.de and .*train\.en are not aligned: they have 50 and 1 lines"):
        prepared(tmp_path, subwords=100, ratio=3)
    (raw / "test.de").write_bytes(b"Ein Haus.\nM\xfcller.\n")
    with pytest.raises(UserError, match=r"test\.de, line 2: not valid UTF-8"):
        prepared(tmp_path, subwords=100, ratio=3)
    assert {path.name: path.read_bytes() for path in text.folder.iterdir()} == before
    assert not list(tmp_path.glob(".*preparing"))


@pytest.mark.parametrize("writer", [(MMapIndexedDatasetBuilder, "add_item"), (Path, "write_bytes"), (Path, "mkdir")])
def test_a_full_disk_is_told_and_loses_nothing_that_was_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: tuple[type, str]
) -> None:
    def no_space(*_: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    register(monkeypatch, tmp_path, train=SENTENCES)
    text = prepared(tmp_path, subwords=100)
    before = {path.name: path.read_bytes() for path in text.folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(*writer, no_space)
        with pytest.raises(UserError, match=r"no free disk space while writing .*written-all-100; free some and run"):
            prepared(tmp_path, subwords=100, ratio=3)
    assert {path.name: path.read_bytes() for path in text.folder.iterdir()} == before
    assert not list(tmp_path.glob(".*preparing"))


def test_a_reader_that_leaves_line_breaks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tmp_path, train=SENTENCES)
    broken = {"test": [("Ja.", "Yes."), ("Ein Haus.", "A\nhouse.")]}
    monkeypatch.setattr(written_corpus, "read", lambda raw, split: iter(broken.get(split, SENTENCES)))
    with pytest.raises(UserError, match="written: pair 2 of split test holds a line break"):
        prepared(tmp_path, subwords=100)


def test_text_of_another_number_of_lines_is_never_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every later translation would be compared with its neighbour's reference."""
    register(monkeypatch, tmp_path, train=SENTENCES)
    text = prepared(tmp_path, subwords=100)
    path = text.folder / "validation.en"
    path.write_text("A\n" + path.read_text())
    with pytest.raises(
        UserError, match=r"validation\.en has 3 lines, but split validation has 2 pairs; delete .*again"
    ):
        text.references("validation")
    assert text.sources("validation") == ["Ein Haus.", "Ja."]


@pytest.mark.parametrize("name", ["train.de-en.de.bin", "dict.txt", "validation.en", "subwords.model"])
def test_damage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    register(monkeypatch, tmp_path, train=SENTENCES)
    path = prepared(tmp_path, subwords=100).folder / name
    choice = DatasetChoice(name=NAME, subwords=100)
    assert is_intact(choice, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"{re.escape(name)} is damaged"):
        open_text(prepared_path(choice, tmp_path))
    path.unlink()
    with pytest.raises(UserError, match=rf"{re.escape(name)} is missing"):
        open_text(prepared_path(choice, tmp_path))
    assert not is_intact(choice, tmp_path)


def test_memory_does_not_grow_with_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "SAMPLE_PAIRS", 300)
    monkeypatch.setattr(parallel_text, "BATCH", 100)
    monkeypatch.setattr(aligned_text, "CHUNK", 1 << 12)
    generator = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in generator.integers(0, 26, 6)) for _ in range(200)]
    lines = [" ".join(words[k] for k in generator.integers(0, 200, 60)) for _ in range(1500)]
    peaks = []
    for pairs in (300, 1500):
        folder = tmp_path / str(pairs)
        register(monkeypatch, folder, train=[(line, line) for line in lines[:pairs]])
        prepared(folder, subwords=200, max_tokens=1000)  # imports and caches are not measured
        tracemalloc.start()
        assert prepared(folder, subwords=200, max_tokens=900).sizes["train"] == pairs
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    a_pair = (peaks[1] - peaks[0]) / 1200
    assert a_pair < 100  # fairseq's index; the text of a pair takes 900 bytes


def test_rare_characters_are_spelt_in_bytes() -> None:
    pairs = real("multi30k.train")[:6000]
    model = subwords.load(subwords.learn((line for pair in pairs for line in pair), subwords.LARGE, "multi30k"))
    for text in ("Ein 漢字 und ein Ω.", "½ Liter „Öl“ – 5 €", normalised(pairs[0][0])):
        ids = model.encode(text)
        assert model.unk_id() not in ids
        assert model.decode(ids) == text


@pytest.mark.parametrize("error", [UserError("line 4: not valid UTF-8"), Interrupted("SIGTERM"), KeyboardInterrupt()])
def test_what_ends_the_reading_of_the_text_is_told_as_it_is(error: BaseException) -> None:
    def sentences() -> Iterator[str]:
        yield "Ein Hund läuft ."
        raise error

    with pytest.raises(type(error)) as caught:
        subwords.learn(sentences(), 20, "toy")
    assert caught.value is error


def test_the_sample_for_the_vocabulary_is_spread_over_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "SAMPLE_PAIRS", 4)
    pairs = [(f"d{k}", f"e{k}") for k in range(10)]
    assert list(subwords.sampled(pairs, 10)) == ["d0", "e0", "d3", "e3", "d6", "e6", "d9", "e9"]
    assert list(subwords.sampled(pairs, None)) == [f"{side}{k}" for k in range(4) for side in "de"]
    assert len(list(subwords.sampled(pairs[:3], 3))) == 6


def test_real_tokenised_pairs_go_through_cleaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = real("wmtmix10k.tok"), real("newstest2014")
    empty = [number for number, pair in enumerate(train) if not all(pair)]
    assert (len(train), len(empty)) == (10_000, 1)
    raw = register(monkeypatch, tmp_path, train=train, test=test)
    text = prepared(tmp_path, subwords=2000)
    report = cleaning(text.folder / "prepared.safetensors")
    assert report["read"] == 10_000
    assert report["dropped"]["empty"] == 1
    assert 9_500 < text.sizes["train"] == 10_000 - sum(report["dropped"].values())
    pairs = text.pairs("train")
    assert pairs.source_lengths.max() <= 251 and pairs.target_lengths.min() >= 2
    assert text.decode(pairs.source[0]) == normalised(train[0][0])
    assert text.sizes["test"] == len(text.references("test")) == 3003
    assert text.references("test") == [english for _, english in test] == [english for _, english in read(raw, "test")]
    tokens = text.pairs("test")
    unknown = sum(int((ids == text.dictionary.unk()).sum()) for ids in tokens.target)
    assert unknown < 1e-3 * tokens.target_lengths.sum()
    same = [text.decode(ids) == normalised(english) for ids, (_, english) in zip(tokens.target, test, strict=True)]
    assert np.mean(same) > 0.99


def test_another_language_pair_needs_configuration_alone(tmp_path: Path) -> None:
    """Files of any two languages, in a folder that the configuration names."""
    folder = tmp_path / "corpora" / "mine"
    folder.mkdir(parents=True)
    toy = DATASETS["toy"]
    for split, count in (("train", 400), ("validation", 5), ("test", 4)):
        for side, language in enumerate(("fr", "it")):
            lines = [pair[side] for pair, _ in zip(toy.read(tmp_path, split), range(count), strict=False)]
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    choice = DatasetChoice(name="text-files", files=str(folder), languages=("fr", "it"), subwords=200)
    assert prepare(choice, tmp_path)
    text = open_text(prepared_path(choice, tmp_path))
    assert text.languages == ("fr", "it") and text.folder.name == "mine-fr-it-all-200"
    assert text.sizes["validation"] == 5 and len(text.pairs("train")) == text.sizes["train"] > 300
    assert text.references("test") == (folder / "test.it").read_text(encoding="utf-8").splitlines()
    assert chosen(recipe(choice)) == choice and is_prepared(choice, tmp_path)
    turned = DatasetChoice(name="text-files", files=str(folder), languages=("it", "fr"), subwords=200)
    assert recipe(turned) != recipe(choice) and turned.folder != choice.folder
    for wrong, said in (
        ({"name": "text-files", "files": "x"}, "languages is needed for text-files"),
        ({"name": "toy", "languages": ("fr", "it")}, "languages belongs to text-files"),
        ({"name": "text-files", "files": "x", "languages": ("fr", "fr")}, "must differ"),
    ):
        with pytest.raises(ValueError, match=said):
            DatasetChoice(**wrong)
