"""Translation task: batches, dropout, metrics and outputs, on a corpus in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from small_text import MODEL, small_task, small_text, text_training
from torch.func import functional_call
from toy_task import assert_same, session, train

from three_regime.errors import Interrupted, UserError
from three_regime.landscape.linear_cka import Gram, condensed_kinds, linear_cka
from three_regime.models import transformer
from three_regime.models.sizes import text_size
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks
from three_regime.random_streams import Streams
from three_regime.system.interruption import Stop
from three_regime.tasks.translation import loss
from three_regime.tasks.translation.batches import Batches
from three_regime.tasks.translation.dropout import Dropout
from three_regime.tasks.translation.task import spread
from three_regime.training.trainer import Session

STREAMS = Streams(("dense", 1))


@pytest.fixture(scope="module")
def task():
    return small_task()


def test_dropout_keeps_the_mean_in_bfloat16():
    """1 / 0.9 rounded to bfloat16 is 0.16 % less; scaled after masking, single products round, but without a bias."""
    x = torch.linspace(1, 2, 1 << 16)
    for dtype in (torch.float32, torch.bfloat16):
        drop = Dropout(0.1, 7, torch.device("cpu"))
        kept = drop(x.to(dtype)).double()
        expected = torch.where(kept != 0, x.to(dtype).double() / (1 - drop.rate), 0)
        assert (kept.sum() / expected.sum()).item() == pytest.approx(1, abs=2e-4)
        assert ((kept - expected).abs() <= expected * torch.finfo(dtype).eps).all()


@pytest.fixture(scope="module")
def weights(task):
    return task.load(task.initial_weights(STREAMS), "fresh")


def test_an_epoch_holds_every_pair_once_within_the_limit(task):
    training = text_training(accumulate=1)
    epoch = task.epoch(STREAMS, 0, training)
    batches = [part.batch for step in range(epoch.steps) for part in epoch.micro_batches(step)]
    rows = sorted(row for batch in batches for row in batch.rows)
    assert rows == list(range(len(task.text.pairs("train"))))
    for batch in batches:
        assert batch.target.numel() <= training.batch_size
        assert batch.source.numel() <= training.batch_size
        assert batch.tokens == int((batch.target != task.text.dictionary.pad()).sum())


def test_only_the_order_of_batches_changes_between_epochs(task):
    training = text_training(accumulate=1)
    orders = []
    for number in range(3):
        epoch = task.epoch(STREAMS, number, training)
        orders.append([epoch.micro_batches(step)[0].batch.rows for step in range(epoch.steps)])
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1]
    again = task.epoch(STREAMS, 1, training)
    assert [again.micro_batches(step)[0].batch.rows for step in range(again.steps)] == orders[1]


def test_ties_of_length_are_drawn_by_the_epochs_stream(task):
    training = text_training(accumulate=1, shuffle_ties=True)
    pairs = task.text.pairs("train")

    def batches(streams, number):
        epoch = task.epoch(streams, number, training)
        return [epoch.micro_batches(step)[0].batch for step in range(epoch.steps)]

    first, second = (sorted(batch.rows for batch in batches(STREAMS, number)) for number in (0, 1))
    fixed = [task.epoch(STREAMS, 0, text_training(accumulate=1)).micro_batches(step)[0].batch.rows
             for step in range(len(first))]  # fmt: skip
    assert first != second and first == sorted(batch.rows for batch in batches(STREAMS, 0))
    assert first != sorted(batch.rows for batch in batches(Streams(("dense", 2)), 0)) and first != sorted(fixed)
    for found in (first, second, fixed):
        assert sorted(row for rows in found for row in rows) == list(range(len(pairs)))
        sides = [sorted((pairs.source_lengths[row], pairs.target_lengths[row]) for row in rows) for rows in found]
        assert sorted(sides) == sorted(sorted((pairs.source_lengths[row], pairs.target_lengths[row]) for row in rows)
                                       for rows in fixed)  # fmt: skip


@pytest.mark.parametrize("drop_last", [False, True])
def test_accumulated_batches_make_up_the_steps(task, drop_last):
    count = task.epoch(STREAMS, 0, text_training(accumulate=1)).steps
    epoch = task.epoch(STREAMS, 0, text_training(accumulate=3, drop_last=drop_last))
    sizes = [len(epoch.micro_batches(step)) for step in range(epoch.steps)]
    assert count % 3, "the test needs a last step that is not full"
    assert sizes == [3] * (count // 3) + ([] if drop_last else [count % 3])


@pytest.mark.parametrize("checkpoints", [(), (1,)])
def test_fewer_batches_than_a_step_accumulates_are_refused(task, tmp_path, checkpoints):
    training = text_training(accumulate=1000, drop_last=True)
    with pytest.raises(UserError, match=r"toy: an epoch has no steps: .* with batch_size 60 and accumulate 1000 "):
        train(task, tmp_path / "state", training, checkpoints=checkpoints)
    assert not list(tmp_path.iterdir())


def test_a_sentence_longer_than_a_batch_is_named(task):
    with pytest.raises(UserError, match=r"batch_size is 3 tokens, but pair \d+ has 9"):
        task.epoch(STREAMS, 0, text_training(batch_size=3))


def test_dropout_depends_on_the_batch_alone(task, weights):
    epoch = task.epoch(STREAMS, 0, text_training(dropout=0.5))
    first, second = epoch.micro_batches(0)
    assert first.seed != second.seed
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    once = task.loss(weights, {}, first)[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(task.loss(weights, {}, first)[0], once)
    assert not torch.equal(task.loss(weights, {}, type(first)(first.batch, 0.5, first.seed + 1, 0.1))[0], once)


def test_dropout_drops_at_its_rate_and_keeps_the_mean():
    drop = Dropout(0.1, 5, torch.device("cpu"))
    first, second = drop(torch.ones(300, 333)), drop(torch.ones(300, 333))
    assert (first == 0).float().mean().item() == pytest.approx(0.1, abs=0.005)
    assert first.mean().item() == pytest.approx(1, abs=0.005) and set(first.unique().tolist()) == {
        0,
        first.max().item(),
    }
    assert not torch.equal(first, second)
    assert torch.equal(Dropout(0.1, 5, torch.device("cpu"))(torch.ones(300, 333)), first)
    together = ((first == 0) & (second == 0)).float().mean().item()
    assert together == pytest.approx(0.01, abs=0.002), "masks are independent"
    x = torch.ones(7)
    assert Dropout(0.0, 5, torch.device("cpu"))(x) is x


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_fairseqs_criterion(smoothing, monkeypatch):
    """Also where the logits are computed in pieces, the last of them not full."""
    monkeypatch.setitem(loss.CHUNK, "cpu", 7 * 50)
    generator = torch.Generator().manual_seed(3)
    outputs, table = (torch.randn(size, 16, generator=generator, dtype=torch.float64) for size in (31, 50))
    targets = torch.randint(50, (31,), generator=generator)
    leaves = outputs.float().requires_grad_(), table.float().requires_grad_()
    total, errors = loss.smoothed_loss(*leaves, targets, smoothing)
    found = torch.autograd.grad(total * 3, leaves)
    outputs.requires_grad_(), table.requires_grad_()
    logits = outputs @ table.t()
    wanted, _ = label_smoothed_nll_loss(logits.log_softmax(-1), targets, smoothing, ignore_index=-1)
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert errors.item() == (logits.argmax(-1) != targets).sum().item()
    for ours, theirs in zip(found, torch.autograd.grad(wanted * 3, (outputs, table)), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("model", ["transformer-2x16x2", "transformer-1x16x4-shared"])
def test_the_lean_passes_are_fairseqs(model, plain):
    """Outputs at real tokens, with padding on both sides, by plain products and by torch's fused attention."""
    task = small_task(model=model)
    weights = task.load(task.initial_weights(STREAMS), "fresh")
    assert ("decoder.embed_tokens.weight" in weights) == ("shared" not in model)
    expected = text_size(model, vocabulary=len(task.text.dictionary))
    assert sum(value.numel() for value in weights.values()) == expected.parameters and len(weights) == expected.tensors
    task.network.plain = plain
    batch = Batches(task.text.pairs("train"), task.text.dictionary, 10_000, task.device)[0]
    assert batch.hidden is not None and batch.tokens < batch.target.numel()
    lengths = (batch.source != task.text.dictionary.pad()).sum(1)
    inputs = (batch.source, lengths, batch.previous)
    with torch.no_grad():
        wanted = functional_call(task.model.eval(), weights, inputs)[0].flatten(0, 1)[batch.real]
        encoded = task.network.encode(weights, batch.source, batch.hidden)
        outputs = task.network.decode(weights, batch.previous, encoded, batch.hidden).flatten(0, 1)[batch.real]
    found = outputs @ weights[task.network.target_table].t()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_evaluation_has_no_dropout_smoothing_or_padding(task, weights):
    pairs = task.text.pairs("validation")
    pad = task.text.dictionary.pad()
    errors = nll = tokens = 0
    task.model.eval()
    for source, target in zip(pairs.source, pairs.target, strict=True):
        previous = torch.cat([target[-1:], target[:-1]])
        with torch.no_grad():
            logits = functional_call(task.model, weights, (source[None], torch.tensor([len(source)]), previous[None]))[
                0
            ]
        errors += int((logits[0].argmax(-1) != target).sum())
        nll += F.cross_entropy(logits[0], target, reduction="sum", ignore_index=pad).item()
        tokens += len(target)
    found = task.evaluate(weights, "test")
    assert found.error == errors / tokens
    assert found.nll == pytest.approx(nll / tokens, rel=1e-5)


def test_fewer_pairs_are_spread_as_evenly_over_the_corpus():
    for total, count in ((60, 5), (1000, 37), (28_974, 2000)):
        rows = np.sort(spread(total, count))
        gaps = np.diff(rows)
        assert len(set(rows)) == count and len(set(gaps)) <= 3 and gaps.max() < 3 * total / count
        assert set(spread(total, count - 1)) < set(rows)
        assert rows[0] < 3 * total / count and rows[-1] > total - 3 * total / count


def test_training_error_is_measured_on_the_measured_pairs_alone():
    text = small_text()
    whole, part = small_task(text), small_task(text, measured_pairs=5)
    weights = whole.load(whole.initial_weights(STREAMS), "fresh")
    assert part.evaluate(weights, "train") == whole.evaluate(weights, "train", 5) != whole.evaluate(weights, "train")


def test_nothing_is_reestimated(task, weights):
    assert task.buffers == {}
    found = task.reestimate(weights, 64)
    assert found.keys() == weights.keys() and all(found[name] is weights[name] for name in weights)


def test_outputs_are_those_of_pairs_spread_over_the_corpus(task, weights):
    pairs = task.text.pairs("train")
    rows = []
    task.model.eval()
    chosen = spread(len(pairs), len(pairs))[:12]
    for source, target in ((pairs.source[row], pairs.target[row]) for row in chosen):
        previous = torch.cat([target[-1:], target[:-1]])
        with torch.no_grad():
            rows.append(
                functional_call(task.model, weights, (source[None], torch.tensor([len(source)]), previous[None]))[0][0]
            )
    wanted = torch.cat(rows)[:50].double()
    found = dict(task.outputs(weights, 50))
    np.testing.assert_allclose(found["logits"], wanted, atol=1e-5)
    np.testing.assert_allclose(found["softmax"], wanted.softmax(1), atol=1e-5)


def test_condensed_gram_matrices_give_the_same_cka(task, weights):
    other = task.load(task.initial_weights(Streams(("dense", 2))), "other")
    few = [condensed_kinds(task.outputs(each, 20))["logits"] for each in (weights, other)]
    assert all(isinstance(each, Gram) and len(each) == 20 for each in few)
    full = [dict(task.outputs(each, 50))["logits"][:20] for each in (weights, other)]
    assert linear_cka(*few) == pytest.approx(linear_cka(*full), abs=1e-6)


def test_more_tokens_than_there_are_is_an_error(task, weights):
    with pytest.raises(UserError, match="100000 target tokens were requested"):
        dict(task.outputs(weights, 100_000))


def test_only_attention_and_feed_forward_matrices_are_prunable(task):
    names = set(task.prunable)
    assert len(names) == 16  # one layer: 4 + 2 of the encoder, 8 + 2 of the decoder
    assert all(".layers." in name and name.endswith(".weight") and "norm" not in name for name in names)
    sizes = {name: int(np.prod(shape)) for name, shape in task.parameters.items()}
    expected = text_size(MODEL, vocabulary=len(task.text.dictionary))
    assert sum(sizes.values()) == expected.parameters and len(sizes) == expected.tensors
    assert sum(sizes[name] for name in names) == expected.prunable


def test_the_decoders_embedding_is_its_output_and_stands_once(task, weights):
    assert "decoder.embed_tokens.weight" in weights and "decoder.output_projection.weight" not in weights
    changed = {**weights, "decoder.embed_tokens.weight": weights["decoder.embed_tokens.weight"] * 0}
    assert task.evaluate(changed, "test").nll == pytest.approx(np.log(len(task.text.dictionary)), rel=1e-6)


def test_initial_weights_follow_fairseqs_rules(task):
    dictionary = small_text(words=300).dictionary
    model = transformer.build("transformer-1x128x4", dictionary)
    ours = transformer.initial_weights(model, np.random.default_rng(1))
    for name, theirs in model.named_parameters():
        assert ours[name].std() == pytest.approx(float(theirs.detach().std(correction=0)), rel=0.25, abs=1e-9), name
    assert not ours["decoder.embed_tokens.weight"][dictionary.pad()].any()


def test_a_checkpoint_with_another_vocabulary_is_refused(task):
    other = small_task(small_text(words=40))
    arrays = other.initial_weights(STREAMS)
    with pytest.raises(UserError, match="vocabulary of 44 subwords and small has 34"):
        task.load(arrays, "other.safetensors")


def test_a_sentence_beyond_the_models_positions_is_refused():
    text = small_text()
    text.pairs("train").source[3] = torch.full((2000,), 5)
    with pytest.raises(UserError, match="split train has a sentence of 2000 subwords and the model takes 1024"):
        small_task(text)


class StopsAt:
    """A task that asks for the end before one of its passes."""

    def __init__(self, task, number: int) -> None:
        self._task, self.number, self.passes, self.stop = task, number, 0, Stop()

    def __getattr__(self, name):
        return getattr(self._task, name)

    def loss(self, *arguments):
        self.passes += 1
        if self.passes == self.number:
            self.stop.request("test")
        return self._task.loss(*arguments)


@pytest.mark.parametrize("kind", ["dense", "retrain"])
@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_a_resumed_run_with_dropout_is_bit_identical(task, tmp_path, kind, rho):
    training = text_training(epochs=2, dropout=0.3, sam_rho=rho)
    streams = Streams((kind, 1))
    start = task.initial_weights(streams)
    masks = magnitude_masks(start, task.prunable, 0.3, "uniform") if kind == "retrain" else {}
    start = apply_masks(start, masks)
    options = {"streams": streams, "start": start, "masks": masks}
    whole = train(task, tmp_path / "whole.safetensors", training, session(), **options)[2]
    passes = 2 * sum(len(task.epoch(streams, 0, training).micro_batches(step))
                     for step in range(task.epoch(streams, 0, training).steps))  # fmt: skip
    for number in np.random.default_rng(5).integers(2, passes - 2, size=3):
        stopping = StopsAt(task, int(number))
        state = tmp_path / f"{number}.safetensors"
        with pytest.raises(Interrupted):
            train(stopping, state, training, Session(1, 1e9, stopping.stop), **options)
        assert state.exists()
        torch.manual_seed(int(number))  # the global generator has no part in it
        assert_same(train(task, state, training, session(), **options)[2], whole)
    for name, mask in masks.items():
        assert not whole.weights[name][~mask].any()


def test_training_learns_and_its_translations_score(tmp_path):
    text = small_text(pairs=300, words=8, longest=5)
    task = small_task(text, held_out={"test": 5})
    training = text_training(epochs=16, accumulate=1, batch_size=100, warmup=20, learning_rate=0.02, dropout=0.0)
    trained = train(task, tmp_path / "state.safetensors", training, streams=STREAMS)[16]
    fresh = task.load(task.initial_weights(STREAMS), "fresh")
    learnt = task.load(trained.weights, "trained")
    assert task.evaluate(learnt, "test").error < 0.6 * task.evaluate(fresh, "test").error
    scores = task.scores(learnt)
    assert scores["validation"]["bleu"] > task.scores(fresh)["validation"]["bleu"] + 10
    assert scores["test"]["sentences"] == 5 and scores["validation"]["sentences"] == 20
    assert "version:" in scores["test"]["signature"] and scores["beam"] == 4
