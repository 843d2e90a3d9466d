"""Out of memory in a training step: the same step in smaller parts, or an error that states the reason."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_task import SIZE, Quadratic, ToyEpoch, rows, settings, train

from three_regime.errors import UserError
from three_regime.random_streams import Streams

FULL = 7


class Limited(Quadratic):
    """Minimise over batches of `FULL` examples; a pass with more than `limit` examples runs out of memory."""

    buffers: dict = {}  # noqa: RUF012

    def __init__(self, limit: int, divides: bool = True) -> None:
        super().__init__()
        self.limit, self.divides = limit, divides
        self.sizes: list[int] = []

    def initial_weights(self, streams) -> dict:
        return {name: array for name, array in super().initial_weights(streams).items() if name != "seen"}

    def epoch(self, streams, epoch: int, *_) -> ToyEpoch:
        noise = streams.generator("order", epoch).standard_normal((self.steps, 1, FULL, SIZE), dtype=np.float32)
        return ToyEpoch(self.steps, noise)

    def loss(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], batch: Tensor) -> tuple:
        self.sizes.append(len(batch))
        if len(batch) > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        gap = parameters["w"] - self.target - batch
        value = (self.curvature * gap**2).sum(dim=1).mean() / 2 + (parameters["c"] ** 2).sum() / 2
        return value, torch.tensor(1), len(batch)

    def targets(self, batch: Tensor) -> int:
        return len(batch)

    def halves(self, batch: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.divides or len(batch) == 1:
            return None
        middle = len(batch) // 2
        return batch[:middle], batch[middle:]


@pytest.mark.parametrize(("limit", "parts"), [(4, 2), (2, 4), (3, 4)])
def test_the_step_stays_the_same_in_smaller_parts(tmp_path: Path, caplog, limit: int, parts: int) -> None:
    whole, limited = Limited(FULL), Limited(limit)
    expected = train(whole, tmp_path / "whole", settings())[4]
    found = train(limited, tmp_path / "limited", settings())[4]
    np.testing.assert_allclose(found.weights["w"], expected.weights["w"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows(found, "train_loss"), rows(expected, "train_loss"), rtol=1e-5)
    assert rows(found, "iterations") == rows(expected, "iterations")
    assert set(whole.sizes) == {FULL}
    failures = sum(size > limit for size in limited.sizes)
    assert failures == {2: 1, 4: 2}[parts], "what did not fit is not tried again"
    assert sum(size for size in limited.sizes if size <= limit) >= FULL * 4 * limited.steps
    assert f"each batch is computed in up to {parts} parts, with the same effective batch" in caplog.text
    assert "Tried to allocate 2.00 GiB" in caplog.text


def test_with_sharpness_aware_steps_too(tmp_path: Path) -> None:
    expected = train(Limited(FULL), tmp_path / "whole", settings(sam_rho=0.1))[4]
    found = train(Limited(4), tmp_path / "limited", settings(sam_rho=0.1))[4]
    np.testing.assert_allclose(found.weights["w"], expected.weights["w"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rho", [0.0, 0.1])
@pytest.mark.parametrize(("task", "chosen"), [(Quadratic(), {"accumulate": 40}), (Limited(2), {})])
def test_a_step_in_many_parts_holds_one_sum(tmp_path: Path, monkeypatch, rho: float, task, chosen) -> None:
    """A step needs no more gradient memory than with two parts, whatever the number of parts."""
    gradients: list[weakref.ref] = []
    alive: list[int] = []
    sound = torch.autograd.grad

    def watched(*arguments):
        alive.append(sum(gradient() is not None for gradient in gradients))
        found = sound(*arguments)
        gradients.extend(weakref.ref(gradient) for gradient in found)
        return found

    monkeypatch.setattr(torch.autograd, "grad", watched)
    train(task, tmp_path / "state", settings(epochs=1, milestones=(), sam_rho=rho, **chosen))
    assert len(alive) >= 4 * task.steps
    # The sum so far; with SAM also the gradient that the second pass ascends.
    assert max(alive) == (2 if rho else 1)


def test_out_of_memory_in_a_later_part_starts_the_step_again(tmp_path: Path) -> None:
    """Gradients of the earlier parts are discarded."""

    class FailsLate(Limited):
        def epoch(self, streams, epoch: int, *_) -> ToyEpoch:
            noise = streams.generator("order", epoch).standard_normal((self.steps, 3, FULL, SIZE), dtype=np.float32)
            return ToyEpoch(self.steps, noise)

        def loss(self, *arguments) -> tuple:
            if len(self.sizes) == 2:
                self.sizes.append(FULL + 1)
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return super().loss(*arguments)

    failing = FailsLate(FULL)
    found = train(failing, tmp_path / "failing", settings())[4]
    assert failing.sizes[:9] == [FULL, FULL, FULL + 1, 3, 4, 3, 4, 3, 4]
    halved = FailsLate(FULL)
    halved.sizes = [0] * 3  # past the failure
    halved.limit = 4  # and never whole
    expected = train(halved, tmp_path / "halved", settings())[4]
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
    assert rows(found, "train_loss") == rows(expected, "train_loss")
    assert rows(found, "train_error") == rows(expected, "train_error")


def test_a_small_batch_among_others_stays_whole(tmp_path: Path) -> None:
    """The last batch of an epoch may hold one sentence: it is indivisible, and fits."""

    class EndsWithOne(Limited):
        def epoch(self, streams, epoch: int, *_) -> ToyEpoch:
            *noise, last = super().epoch(streams, epoch).noise
            return ToyEpoch(self.steps, [*noise, last[:, :1]])

    expected = train(EndsWithOne(FULL), tmp_path / "whole", settings())[4]
    limited = EndsWithOne(2)
    found = train(limited, tmp_path / "limited", settings())[4]
    np.testing.assert_allclose(found.weights["w"], expected.weights["w"], rtol=1e-5, atol=1e-6)
    assert 1 in limited.sizes and max(limited.sizes[3:]) <= 2


def test_a_single_example_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="toy: the GPU ran out of memory.*a single example is indivisible"):
        train(Limited(0), tmp_path / "state", settings())


def test_a_model_that_needs_the_whole_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="BatchNorm takes its statistics over the whole batch.*`pack: .replica.`.*lower"
    ):
        train(Limited(4, divides=False), tmp_path / "state", settings())


def test_images_are_never_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real task, out of memory in the middle of a training: the job ends in one sentence with the settings to
    change, and the state that it saved lets the same command continue."""
    from tiny_study import config, digests, run

    from three_regime.tasks.images.stacked import ImageStack

    expected = config(tmp_path / "whole")
    run(expected, "dense")
    settings_of = config(tmp_path / "failed", top={"state_every_s": 1e-9})
    sound, passes = ImageStack.loss, []

    def failing(stack, *arguments):
        passes.append(None)
        if len(passes) == 6:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return sound(stack, *arguments)

    monkeypatch.setattr(ImageStack, "loss", failing)
    with pytest.raises(UserError, match=r"dense, seed 1: the GPU ran out of memory.*BatchNorm.*`batch_size`"):
        run(settings_of, "dense")
    run(settings_of, "dense")
    assert digests(settings_of, "dense") == digests(expected, "dense")


def test_without_dropout_halves_take_the_same_step(tmp_path: Path, monkeypatch) -> None:
    """On the real Transformer; with dropout the halves draw masks of their own."""
    from small_text import small_task, text_training

    whole, limited = small_task(), small_task()
    training = text_training(epochs=1, dropout=0.0, optimiser="sgd", learning_rate=0.01)
    expected = train(whole, tmp_path / "whole", training)[1]
    sound, failures = limited.loss, []

    def limited_loss(parameters, buffers, batch):
        if len(batch.batch.rows) > 4:
            failures.append(len(batch.batch.rows))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return sound(parameters, buffers, batch)

    monkeypatch.setattr(limited, "loss", limited_loss)
    found = train(limited, tmp_path / "limited", training)[1]
    assert failures
    for name, array in expected.weights.items():
        np.testing.assert_allclose(found.weights[name], array, rtol=1e-4, atol=1e-6, err_msg=name)
    assert rows(found, "train_error") == pytest.approx(rows(expected, "train_error"))
    batch = limited.epoch(Streams(("retrain", 1, 1)), 0, text_training()).micro_batches(0)[0]
    first, second = limited.halves(batch)
    assert (first.batch.rows + second.batch.rows, first.batch.tokens + second.batch.tokens) == (
        batch.batch.rows, batch.batch.tokens,
    )  # fmt: skip
    assert len({batch.seed, first.seed, second.seed}) == 3 and first.dropout == batch.dropout
