"""Beam search: independence of batching; limits; BLEU and its signature."""

from __future__ import annotations

import math
import os
import unicodedata
from dataclasses import replace

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator
from small_text import small_task, small_text, text_training
from torch.func import functional_call
from toy_task import train

from three_regime.errors import UserError
from three_regime.models.sizes import MAX_POSITIONS
from three_regime.random_streams import Streams
from three_regime.tasks.translation.beam_search import DEFAULT_SEARCH, Search, Symbols, translate
from three_regime.tasks.translation.bleu import kept, paired_bootstrap, restored, scored, scores_of_files

STREAMS = Streams(("dense", 1))
SEARCH = Search()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A task and partially trained weights, neither random nor confident."""
    task = small_task(small_text(pairs=300, words=8, longest=6))
    training = text_training(epochs=8, batch_size=100, accumulate=1, warmup=20, learning_rate=0.02, dropout=0.0)
    state = tmp_path_factory.mktemp("trained") / "state.safetensors"
    return task, task.load(train(task, state, training, streams=STREAMS)[8].weights, "trained")


def decode(trained, sentences, search=SEARCH, **options):
    task, weights = trained
    symbols = Symbols(task.text.dictionary.pad(), task.text.dictionary.eos())
    found = translate(task.network, weights, symbols, sentences, search, **options)
    return [ids.tolist() for ids in found]


@pytest.mark.parametrize("beam", [1, 4])
def test_hypotheses_are_the_same_at_batch_sizes_1_and_32(trained, beam):
    sentences = trained[0].text.pairs("train").source[:64]
    search = replace(SEARCH, beam=beam)
    together = decode(trained, sentences, search, batch_size=32)
    assert decode(trained, sentences, search, batch_size=1) == together
    assert len({tuple(ids) for ids in together}) > 5
    assert decode(trained, sentences[::-1], search, batch_size=7) == together[::-1]


def by_fairseq(trained, sentences, search):
    """Hypotheses of fairseq's own generator, sentence by sentence."""
    task, weights = trained
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            parameter.copy_(weights[name])
    found = []
    for sentence in sentences:
        generator = SequenceGenerator(
            [task.model.eval()], task.text.dictionary, beam_size=search.beam, len_penalty=search.length_penalty,
            max_len_b=search.limit(len(sentence)),
        )  # fmt: skip
        inputs = {"src_tokens": sentence[None], "src_lengths": torch.tensor([len(sentence)])}
        (ranked,) = generator.generate([task.model], {"net_input": inputs})
        found.append(ranked[0]["tokens"][:-1].tolist())
    return found


@pytest.mark.parametrize("search", [Search(1), Search(4), Search(5, 0.0), Search(3, 1.5, 1.0, -1)])
def test_hypotheses_are_those_of_fairseqs_generator(trained, search):
    """Also where nothing is learnt yet and every translation reaches its limit."""
    task, _ = trained
    sentences = task.text.pairs("train").source[:40]
    assert decode(trained, sentences, search) == by_fairseq(trained, sentences, search)
    fresh = task, task.load(task.initial_weights(STREAMS), "fresh")
    found = decode(fresh, sentences, search)
    assert any(len(ids) == search.limit(len(sentence)) for ids, sentence in zip(found, sentences, strict=True))
    assert found == by_fairseq(fresh, sentences, search)


def test_greedy_search_takes_the_likeliest_word_each_time(trained):
    task, weights = trained
    sentence = task.text.pairs("validation").source[0]
    (found,) = decode(trained, [sentence], Search(beam=1))
    prefix = [task.text.dictionary.eos()]
    with torch.no_grad():
        for word in found:
            inputs = (sentence[None], torch.tensor([len(sentence)]), torch.tensor([prefix]))
            logits = functional_call(task.model.eval(), weights, inputs)[0][0, -1]
            logits[task.text.dictionary.pad()] = -torch.inf
            if len(prefix) == 1:
                logits[task.text.dictionary.eos()] = -torch.inf  # fairseq writes at least one word
            assert int(logits.argmax()) == word
            prefix.append(word)


def test_a_wider_beam_finds_no_less_probable_hypotheses(trained):
    task, weights = trained
    sources, targets = task.text.pairs("validation").source, []

    def total(search):
        found = decode(trained, sources, search)
        eos, score = task.text.dictionary.eos(), 0.0
        with torch.no_grad():
            for source, ids in zip(sources, found, strict=True):
                previous = torch.tensor([[eos, *ids]])
                inputs = (source[None], torch.tensor([len(source)]), previous)
                steps = functional_call(task.model.eval(), weights, inputs)[0][0].log_softmax(-1)
                score += float(steps.gather(1, torch.tensor([*ids, eos])[:, None]).sum())
        targets.append(found)
        return score

    assert total(Search(beam=8, length_penalty=0.0)) > total(Search(beam=1, length_penalty=0.0))
    assert targets[0] != targets[1]


def test_a_translation_is_no_longer_than_its_own_sentence_allows(trained):
    task, _ = trained
    fresh = task.load(task.initial_weights(STREAMS), "fresh")
    sentences = task.text.pairs("train").source[:20]
    found = decode((task, fresh), sentences, replace(SEARCH, factor=1.0, extra=2))
    assert all(len(ids) <= len(sentence) + 2 for ids, sentence in zip(found, sentences, strict=True))


def test_a_sentence_too_long_for_the_model_is_named(trained):
    sentences = [torch.tensor([5, 2]), torch.full((1025,), 5)]
    with pytest.raises(UserError, match="line 2 has 1025 subwords.*the model takes 1024"):
        decode(trained, sentences)
    with pytest.raises(UserError, match="line 9 has"):
        decode(trained, sentences, places=[3, 8])


def test_bleu_is_sacrebleus_and_carries_its_signature():
    lines = ["The cat sat on the mat today.", "A dog barks at seven old trees."]
    perfect = scored(lines, lines)
    assert perfect["bleu"] == pytest.approx(100) and perfect["sentences"] == 2
    assert perfect["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert perfect["chrf"] == pytest.approx(100)
    assert perfect["chrf_signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
    # One of 16 words wrong: precisions 15/16, 12/14, 9/12, 6/10 of 1- to 4-grams, no brevity penalty.
    other = ["The cat sat on the mat today.", "A dog barks at eight old trees."]
    expected = 100 * (15 / 16 * 12 / 14 * 9 / 12 * 6 / 10) ** 0.25
    assert scored(other, lines)["bleu"] == pytest.approx(expected)
    # Half of the words: the brevity penalty is exp(1 - 16/8).
    assert scored([lines[0], ""], lines)["length_ratio"] == pytest.approx(0.5)
    assert scored([lines[0], ""], lines)["brevity_penalty"] == pytest.approx(math.exp(-1))


def test_references_in_another_unicode_form_match():
    """Hypotheses are in NFC, as the training text; an accent in NFD would make every such word wrong."""
    composed = ["Der Käse fällt über die große Brücke am Fluß."]
    taken_apart = [unicodedata.normalize("NFD", line) for line in composed]
    assert taken_apart != composed
    found = scored(composed, taken_apart)
    assert found["bleu"] == pytest.approx(100) and found["chrf"] == pytest.approx(100)
    compared = paired_bootstrap(composed * 5, taken_apart * 5, taken_apart * 5)
    assert compared["BLEU"]["first"] == compared["BLEU"]["second"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", "13a"), ("de", "13a"), ("zh", "zh"), ("zh_TW", "zh"), ("zh-CN", "zh"), ("ja", "char"), ("th", "char")],
)
def test_bleu_finds_words_where_no_spaces_part_them(language, expected):
    reference, other = ["我们在这里学习一种新的语言和文化。"], ["我们在这里学习一种新的语言和历史。"]
    found = scored(other, reference, language)
    assert f"tok:{expected}" in found["signature"]
    assert (found["bleu"] > 70) == (expected != "13a")
    assert f"tok:{expected}" in paired_bootstrap(other, reference, reference, language)["BLEU"]["signature"]


def test_the_environment_does_not_seed_the_bootstrap(monkeypatch):
    references = [f"the cat number {n} sat on the old mat" for n in range(40)]
    halves = [[line.replace("cat", "dog") if n % 3 == half else line for n, line in enumerate(references)]
              for half in (0, 1)]  # fmt: skip
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    usual = paired_bootstrap(*halves, references)
    assert "SACREBLEU_SEED" not in os.environ
    for seed in ("0", "1"):
        monkeypatch.setenv("SACREBLEU_SEED", seed)
        assert paired_bootstrap(*halves, references) == usual
        assert os.environ["SACREBLEU_SEED"] == seed


def test_bleu_of_files_names_both_when_their_lines_differ(tmp_path):
    hypotheses, references = tmp_path / "h.en", tmp_path / "r.en"
    hypotheses.write_text("a b c d e\n")
    references.write_text("a b c d e\n\nf\n")
    with pytest.raises(UserError, match=r"h\.en and .*r\.en are not aligned: they have 1 and 3 lines"):
        scores_of_files(hypotheses, references)
    references.write_text("a b c d e\n")
    assert scores_of_files(hypotheses, references)["bleu"] == pytest.approx(100)


def test_bleu_needs_a_reference_for_each_sentence():
    with pytest.raises(UserError, match="one reference per sentence"):
        scored(["a"], [])


def test_kept_hypotheses_come_back_or_are_refused_as_damaged():
    lines = ["Ein Satz.", "", "Käse ☃ \u2028 zwei"]
    entry = kept(lines)
    assert restored(entry, "x.json") == lines and restored(kept([]), "x.json") == []
    assert len(kept(["the same sentence"] * 1000)["deflated"]) < 300
    for wrong in ({**entry, "sha256": "0" * 64}, {**entry, "deflated": entry["deflated"][:-8]}, {}):
        with pytest.raises(UserError, match=r"x\.json: the hypotheses are damaged"):
            restored(wrong, "x.json")


def test_a_paired_bootstrap_tells_better_from_equal():
    references = [f"the cat number {n} sat on the old mat" for n in range(60)]
    worse = [line.replace("cat", "dog") for line in references]
    found = paired_bootstrap(references, worse, references)
    assert found["BLEU"]["first"] == pytest.approx(100) and found["BLEU"]["second"] < 80
    assert found["BLEU"]["p_value"] < 0.01 and found["chrF2"]["p_value"] < 0.01
    assert "bs:1000" in found["BLEU"]["signature"]
    assert paired_bootstrap(worse, worse, references)["BLEU"]["p_value"] == 1
    halves = [[bad if n % 2 == half else good for n, (good, bad) in enumerate(zip(references, worse, strict=True))]
              for half in (0, 1)]  # fmt: skip
    halves[0][0] = references[0]
    assert 0.05 < paired_bootstrap(*halves, references)["BLEU"]["p_value"] < 1


def test_the_search_is_that_of_the_protocol():
    assert Search(beam=4, length_penalty=0.6, factor=2.0, extra=10) == DEFAULT_SEARCH


def test_a_translation_has_at_most_twice_the_source_and_ten_more():
    assert [DEFAULT_SEARCH.limit(tokens) for tokens in (0, 1, 7)] == [10, 12, 24]
    assert Search(factor=1.5, extra=1).limit(3) == 5, "rounded down"
    assert Search(factor=0.0, extra=0).limit(9) == 1, "one word may always be said"
    assert DEFAULT_SEARCH.limit(10**6) == MAX_POSITIONS - 1, "and the end mark"


@pytest.mark.parametrize("beam", [1, 4])
def test_padding_is_never_chosen(trained, beam):
    """Not even where it is the likeliest word."""
    task, weights = trained
    padding, likeliest = task.text.dictionary.pad(), task.text.dictionary.eos() + 5
    table = weights[task.network.target_table].clone()
    table[padding] = 3 * table[likeliest]
    spoilt = {**weights, task.network.target_table: table}
    found = decode((task, spoilt), task.text.pairs("train").source[:16], replace(SEARCH, beam=beam))
    assert not any(padding in ids for ids in found)
