"""Trainer: deterministic; early stops are prefixes of longer runs; interruptions do not change results."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_study import STUDY
from toy_task import Delivered, Quadratic, StopAfter, assert_same, member, rows, session, settings, train

from three_regime.datasets.registry import DATASETS
from three_regime.errors import Interrupted, UserError
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks
from three_regime.random_streams import Streams
from three_regime.tasks.images.task import ImageClassification
from three_regime.training import loop, progress, saved_state
from three_regime.training.trainer import Flat, train_pack

LAST = 4
STEPS = 5


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


def dying(passes: int) -> Quadratic:
    def before_step(number: int) -> None:
        if number == passes:
            raise Killed

    return Quadratic(steps=STEPS, before_step=before_step)


@pytest.fixture(scope="module")
def images() -> ImageClassification:
    entry = DATASETS["digits"]
    return ImageClassification(
        entry, entry.read(Path()), STUDY["model"], torch.device("cpu"), train_images=100, test_images=50
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Delivered:
    return train(
        Quadratic(steps=STEPS), tmp_path_factory.mktemp("run") / "state", settings(), session(evaluate_last=1),
        checkpoints=(1, 2, 3, 4),
    )  # fmt: skip


# -- the same run twice, and shorter ones


@pytest.mark.parametrize("chosen", [{}, {"sam_rho": 0.1}, {"optimiser": "adam", "learning_rate": 0.01}])
def test_the_same_run_twice_is_bit_equal(tmp_path, images, chosen):
    training = settings(epochs=2, milestones=(1,), batch_size=32, **chosen)
    first, second = (train(images, tmp_path / name, training)[2] for name in "ab")
    assert_same(first, second)


def test_another_seed_is_another_run(tmp_path, images):
    training = settings(epochs=1, milestones=(), batch_size=32)
    start = images.initial_weights(Streams(("dense", 1)))
    first, second = (
        train(images, tmp_path / "state", training, start=start, streams=Streams(("retrain", 1, k)))[1] for k in (1, 2)
    )
    assert (first.weights["fc.weight"] != second.weights["fc.weight"]).any()


def test_checkpoints_of_a_long_run_equal_shorter_runs(tmp_path, images):
    """An early stop is a prefix: that is why one dense run serves every temperature of the epochs knob."""
    long = train(images, tmp_path / "long", settings(epochs=4, batch_size=32), checkpoints=(1, 2, 4))
    assert [checkpoint.epoch for checkpoint in long] == [1, 2, 4]
    for epoch in (1, 2):
        short = train(images, tmp_path / "short", settings(epochs=epoch, milestones=(), batch_size=32))
        assert_same(short[epoch], long[epoch])


def test_pack_mates_do_not_influence_each_other(tmp_path, images):
    training = settings(epochs=1, milestones=(), batch_size=32)
    delivered = [Delivered(), Delivered()]
    streams = [Streams(("retrain", 1, k)) for k in (1, 2)]
    pack = [member(images, tmp_path / str(k), delivered[k], streams=streams[k], label=f"replica {k}") for k in range(2)]
    train_pack(images, training, pack, session())
    for k in range(2):
        assert_same(train(images, tmp_path / "alone", training, streams=streams[k])[1], delivered[k][1])


def test_equals_a_plain_torch_loop(tmp_path, images):
    """Model, optimiser and loop of torch itself on the same batches."""
    training = settings(epochs=3, milestones=(2,), batch_size=32, weight_decay=0.01)
    streams = Streams(("retrain", 1, 1))
    found = train(images, tmp_path / "state", training)[3]

    from three_regime.models import families

    network = families.build(STUDY["model"], classes=10, channels=1, image_size=8)
    network.load_state_dict(images.load(images.initial_weights(streams), "start"))
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [2])
    losses = []
    for epoch in range(3):
        batches = images.epoch(streams, epoch, training)
        total = 0.0
        for step in range(batches.steps):
            ((pixels, labels),) = batches.micro_batches(step)
            loss = torch.nn.functional.cross_entropy(network(pixels), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(labels)
        losses.append(total / 100)
        schedule.step()
    for name, value in network.state_dict().items():
        np.testing.assert_allclose(found.weights[name], value.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
    assert rows(found, "train_loss") == pytest.approx(losses, rel=1e-4)


def test_reduced_precision_is_for_a_gpu_alone(tmp_path, images):
    """On a CPU a study of ``precision: bf16`` computes what its records say: single precision."""
    training = settings(epochs=1, milestones=(), batch_size=32)
    full, reduced = (
        train(images, tmp_path / precision, training.model_copy(update={"precision": precision}))[1]
        for precision in ("fp32", "bf16")
    )
    assert_same(full, reduced)


# -- what is delivered


def test_history_has_a_row_an_epoch(uninterrupted):
    history = uninterrupted[4].history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["iterations"] for row in history] == [5, 10, 15, 20]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert [row["train_error"] for row in history] == [0.5] * 4  # 1 error of 2 targets a step
    assert uninterrupted[2].history == history[:2]


@pytest.mark.parametrize(
    ("every", "last", "expected"), [(1, 0, [1, 2, 3, 4]), (3, 0, [3, 4]), (3, 1, [3, 4]), (4, 2, [3, 4]), (4, 0, [4])]
)
def test_which_epochs_are_evaluated(tmp_path, every, last, expected):
    training = settings(evaluate_every=every)
    (checkpoint,) = train(Quadratic(), tmp_path / "state", training, session(evaluate_last=last))
    assert [row["epoch"] for row in checkpoint.history if "test_error" in row] == expected


def test_evaluation_does_not_disturb_training(tmp_path, images):
    often, seldom = (
        train(images, tmp_path / str(every), settings(epochs=2, milestones=(), batch_size=32, evaluate_every=every))[2]
        for every in (1, 100)
    )
    assert all((often.weights[name] == seldom.weights[name]).all() for name in often.weights)


def test_the_start_is_not_changed(tmp_path):
    task = Quadratic()
    start = task.initial_weights(Streams(("dense", 1)))
    before = {name: array.copy() for name, array in start.items()}
    train(task, tmp_path / "state", settings(), start=start)
    assert all((before[name] == start[name]).all() for name in start)


def test_delivered_weights_are_a_copy(tmp_path):
    delivered = train(Quadratic(), tmp_path / "state", settings(), checkpoints=(1, 2))
    assert (delivered[1].weights["w"] != delivered[2].weights["w"]).any()
    assert delivered[1].weights["seen"] == 5


def test_flat_joins_and_views():
    flat = Flat({"a": (2, 3), "b": (), "c": (4,)})
    arrays = {"c": np.arange(4.0), "a": np.arange(6.0).reshape(2, 3), "b": np.array(9.0)}
    vector = torch.from_numpy(flat.join(arrays))
    assert vector.tolist() == [0, 1, 2, 3, 4, 5, 9, 0, 1, 2, 3]
    views = flat.views(vector)
    assert all(torch.equal(views[name], torch.from_numpy(np.asarray(arrays[name]))) for name in arrays)
    views["b"].fill_(1)
    assert vector[6] == 1


# -- interruption, at every step


@pytest.mark.parametrize("moment", range(1, LAST * STEPS))
def test_a_kill_after_any_step_leaves_no_trace(tmp_path, uninterrupted, moment):
    """Killed at step `moment` with a state saved after every step, then continued."""
    state = tmp_path / "state"
    often = session(state_every_s=0, evaluate_last=1)
    with pytest.raises(Killed):
        train(dying(moment), state, settings(), often)
    continued = Quadratic(steps=STEPS)
    (checkpoint,) = train(continued, state, settings(), session(evaluate_last=1))
    assert continued.passes == LAST * STEPS - moment, "no step is repeated, none is skipped"
    assert_same(checkpoint, uninterrupted[4])
    assert not state.exists()


@pytest.mark.parametrize("lockstep", ["off", "auto"])
@pytest.mark.parametrize("chosen", [{}, {"sam_rho": 0.1}, {"optimiser": "adam", "learning_rate": 0.01}])
def test_a_stop_saves_and_a_new_start_continues(tmp_path, images, chosen, lockstep):
    """Stopped by request in the second and third epoch, on images, with masks."""
    streams = Streams(("retrain", 1, 1))
    dense = images.initial_weights(streams)
    masks = magnitude_masks(dense, images.prunable, 0.3, "uniform")
    common = {"start": apply_masks(dense, masks), "masks": masks}
    training = settings(epochs=3, milestones=(1,), batch_size=32, **chosen)
    whole = train(images, tmp_path / "whole", training, session(lockstep=lockstep), **common)[3]

    state = tmp_path / "state"
    for _ in range(2):
        with pytest.raises(Interrupted, match="a test: toy saved in .*state"):
            train(images, state, training, session(lockstep=lockstep, stop=StopAfter(6)), **common)
        assert state.exists()
    assert_same(train(images, state, training, session(lockstep=lockstep), **common)[3], whole)


@pytest.mark.parametrize("epoch", [1, 2, 4])
@pytest.mark.parametrize("place", ["evaluate", "deliver"])
def test_a_signal_during_evaluation_or_delivery_stops_at_once(tmp_path, uninterrupted, place, epoch):
    """Both may take long on a CPU; the state before them is saved."""
    state, about = tmp_path / "state", session(evaluate_last=1)
    task, delivered = Quadratic(steps=STEPS), Delivered()

    def signalled(original):
        def during(*arguments):
            result = original(*arguments)
            if task.passes == epoch * STEPS:
                about.stop.signalled(15, None)
                pytest.fail("went on after the signal")
            return result

        return during

    made = member(task, state, delivered, checkpoints=(1, 2, 4))
    if place == "evaluate":
        task.evaluate = signalled(task.evaluate)
    else:
        made = replace(made, deliver=signalled(lambda checkpoint: None))
    with pytest.raises(Interrupted, match="SIGTERM"):
        train_pack(task, settings(), [made], about)
    again = Quadratic(steps=STEPS)
    late = train(again, state, settings(), session(evaluate_last=1), checkpoints=tuple({epoch, 4}))
    assert again.passes == (LAST - epoch) * STEPS
    for checkpoint in late:
        assert_same(checkpoint, uninterrupted[checkpoint.epoch])


def test_a_stop_before_the_first_step(tmp_path):
    about = session()
    about.stop.request("a test")
    with pytest.raises(Interrupted):
        train(Quadratic(), tmp_path / "state", settings(), about)
    assert (tmp_path / "state").exists()


def test_a_longer_run_continues_a_finished_one(tmp_path, uninterrupted):
    state = tmp_path / "state"
    train(Quadratic(steps=STEPS), state, settings(epochs=2, milestones=()), keep_state=True, checkpoints=(1, 2))
    task = Quadratic(steps=STEPS)
    longer = train(task, state, settings(), session(evaluate_last=1), keep_state=True, checkpoints=(3, 4))
    assert task.passes == 2 * STEPS
    assert_same(longer[4], uninterrupted[4])


def test_a_checkpoint_before_the_state_is_trained_anew(tmp_path, uninterrupted):
    """The state at the end stays, so a later, longer run continues it; a killed run does not begin again."""
    state = tmp_path / "state"
    train(Quadratic(steps=STEPS), state, settings(), keep_state=True, checkpoints=(4,))
    end = state.read_bytes()
    early = {"keep_state": True, "checkpoints": (2,)}
    with pytest.raises(Killed):
        train(dying(7), state, settings(), session(state_every_s=0, evaluate_last=1), **early)
    assert state.read_bytes() == end
    task = Quadratic(steps=STEPS)
    again = train(task, state, settings(), session(evaluate_last=1), **early)
    assert task.passes == 2 * STEPS - 7
    assert_same(again[2], uninterrupted[2])
    assert state.read_bytes() == end and list(tmp_path.iterdir()) == [state]


def test_of_two_states_the_later_stays(tmp_path, uninterrupted):
    """A run that begins anew before the state and ends after it replaces it, also if it was killed in between."""
    state, about = tmp_path / "state", session(state_every_s=0, evaluate_last=1)
    train(Quadratic(steps=STEPS), state, settings(epochs=2, milestones=()), about, keep_state=True)
    before = state.read_bytes()
    both = member(dying(13), state, Delivered(), keep_state=True, checkpoints=(1, 4))
    with pytest.raises(Killed):
        train_pack(dying(13), settings(), [both], about)
    assert state.read_bytes() == before
    task = Quadratic(steps=STEPS)
    last = train(task, state, settings(), about, keep_state=True, checkpoints=(4,))
    assert task.passes == 4 * STEPS - 13, "continued after the later of the two"
    assert_same(last[4], uninterrupted[4])
    assert list(tmp_path.iterdir()) == [state] and saved_state.read_position(state) == (4, 0)


def test_a_state_past_the_first_checkpoint_need_not_be_usable(tmp_path, uninterrupted):
    """It would not be continued, so it may be of other threads."""
    state = tmp_path / "state"
    train(Quadratic(steps=STEPS), state, settings(), replace(session(), threads=2), keep_state=True, checkpoints=(4,))
    end = state.read_bytes()
    found = train(
        Quadratic(steps=STEPS), state, settings(), session(evaluate_last=1), keep_state=True, checkpoints=(2,)
    )
    assert_same(found[2], uninterrupted[2])
    assert state.read_bytes() == end


def test_checkpoints_are_evaluated(tmp_path):
    found = train(Quadratic(), tmp_path / "state", settings(evaluate_every=4), checkpoints=(1, 3, 4))
    assert ["test_error" in row for row in found[4].history] == [True, False, True, True]


# -- failures


@pytest.mark.parametrize("moment", [0, 7, 19])
def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path, moment, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0)  # a line after every step, also after the last member's failure
    task = Quadratic(steps=STEPS)
    value = task.value
    task.value = lambda parameters, x: value(parameters, x) * (float("nan") if task.passes == moment + 1 else 1)
    epoch, step = moment // STEPS + 1, moment % STEPS + 1
    with pytest.raises(UserError, match=f"toy: the loss is not finite in epoch {epoch}, step {step} .*learning rate"):
        train(task, tmp_path / "state", settings(evaluate_every=100))


def test_a_warm_up_as_long_as_an_annealed_run_is_refused(tmp_path):
    training = settings(schedule="linear", milestones=(), warmup=LAST * STEPS)
    with pytest.raises(UserError, match=f"toy: schedule linear never anneals.*warmup of {LAST * STEPS} iterations"):
        train(Quadratic(steps=STEPS), tmp_path / "state", training)
    train(Quadratic(steps=STEPS), tmp_path / "state", training.model_copy(update={"warmup": LAST * STEPS - 1}))


def test_a_huge_learning_rate_is_named(tmp_path, images):
    training = settings(epochs=3, milestones=(), batch_size=32, learning_rate=1e30)
    with pytest.raises(UserError, match=r"toy: .*not finite.*learning rate 1e\+30"):
        train(images, tmp_path / "state", training)


def test_a_test_loss_that_is_not_finite_stops(tmp_path):
    task = Quadratic(steps=STEPS)
    evaluate = task.evaluate
    task.evaluate = lambda *arguments: replace(evaluate(*arguments), nll=float("inf"))
    with pytest.raises(UserError, match="toy: the test loss is not finite after epoch 1"):
        train(task, tmp_path / "state", settings())


def test_a_diverged_state_is_not_saved(tmp_path):
    """The state from before the divergence remains: a lower rate does not start from NaN."""
    task = Quadratic(steps=STEPS)
    value = task.value
    task.value = lambda parameters, x: value(parameters, x) * (float("nan") if task.passes > 7 else 1)
    with pytest.raises(UserError):
        train(task, tmp_path / "state", settings(), session(state_every_s=0))
    from three_regime.system.files import read_arrays

    assert np.isfinite(read_arrays(tmp_path / "state")["parameters"]).all()


def test_members_before_a_failing_one_are_delivered(tmp_path):
    first, second = Delivered(), Delivered()
    task = Quadratic(steps=STEPS)
    good = member(task, tmp_path / "a", first, label="good")
    start = {**good.start, "w": np.full(6, np.nan, np.float32)}
    bad = member(task, tmp_path / "b", second, label="bad", start=start)
    with pytest.raises(UserError, match="bad: the loss is not finite in epoch 1, step 1"):
        train_pack(task, settings(), [good, bad], session())
    assert len(first) == 1 and not second


def test_progress_names_epoch_error_rate_and_time_left(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "three_regime"):
        train(Quadratic(), tmp_path / "state", settings())
    assert "toy: epoch 4/4, test error 50.00%" in caplog.text
    assert "images/s" in caplog.text and " left" in caplog.text


@pytest.mark.parametrize("length", [{}, {"epochs": None, "iterations": 4}])
def test_an_epoch_without_a_step_is_refused(tmp_path, images, length):
    """Dense training would deliver its initial weights, and retraining would divide by zero."""
    training = settings(batch_size=10_000, drop_last=True, **length)
    message = r"toy: an epoch has no steps: .* with batch_size 10000 and accumulate 1 .*set drop_last: false"
    for task in (images, Quadratic(steps=0)):
        for checkpoints in ((), (4,)):
            delivered = Delivered()
            run = replace(member(task, tmp_path / "state", delivered), checkpoints=checkpoints)
            with pytest.raises(UserError, match=message):
                train_pack(task, training, [run], session())
            assert not delivered and not (tmp_path / "state").exists()


# -- steps of several micro-batches


def test_accumulated_micro_batches_equal_the_joined_batch(tmp_path):
    """Two halves of a batch, weighted by their targets, make the step that the whole batch makes."""

    halves = train(Quadratic(), tmp_path / "halves", settings(accumulate=2))[4]
    expected = mean_of_halves(settings())
    np.testing.assert_allclose(halves.weights["w"], expected, rtol=1e-5, atol=1e-6)


def mean_of_halves(training) -> np.ndarray:
    """Plain SGD on the mean of the two losses of each step."""
    task, streams = Quadratic(), Streams(("retrain", 1, 1))
    w, c = (torch.tensor(task.initial_weights(streams)[name], requires_grad=True) for name in ("w", "c"))
    optimiser = torch.optim.SGD([w, c], 0.1, momentum=0.9, weight_decay=training.weight_decay)
    for epoch in range(4):
        optimiser.param_groups[0]["lr"] = 0.1 if epoch < 2 else 0.01
        parts = task.epoch(streams, epoch, training.model_copy(update={"accumulate": 2}))
        for step in range(parts.steps):
            optimiser.zero_grad()
            first, second = parts.micro_batches(step)
            ((task.value({"w": w, "c": c}, first) + task.value({"w": w, "c": c}, second)) / 2).backward()
            optimiser.step()
    return w.detach().numpy()


def test_clipping_bounds_the_step(tmp_path):
    """With momentum 0 and a rate of 1 the first step is as long as the norm allows, in the gradient's direction."""
    training = settings(
        epochs=1, milestones=(), learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.01
    )  # fmt: skip
    task = Quadratic(noise=0, steps=1)
    start = task.initial_weights(Streams(("retrain", 1, 1)))
    clipped = train(task, tmp_path / "a", training)[1].weights
    free = train(task, tmp_path / "b", training.model_copy(update={"clip_norm": None}))[1].weights
    taken, wanted = (
        np.concatenate([found[name] - start[name] for name in ("w", "c")]) for found in (clipped, free)
    )  # fmt: skip
    assert np.linalg.norm(taken) == pytest.approx(0.01, rel=1e-4)
    np.testing.assert_allclose(taken / 0.01, wanted / np.linalg.norm(wanted), atol=1e-4)


def test_a_gpu_without_bf16_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    task = Quadratic()
    monkeypatch.setattr(task, "device", torch.device("cuda"), raising=False)
    with pytest.raises(UserError, match=r"bf16, which the GPU Tesla V100 does not support.*precision to fp32"):
        train(task, tmp_path / "state", settings(precision="bf16"))
    assert task.passes == 0
    monkeypatch.undo()
    train(Quadratic(), tmp_path / "state", settings(precision="bf16"))  # no effect on a CPU


def test_fp16_is_no_precision():
    with pytest.raises(ValueError, match="'fp32', 'tf32' or 'bf16'"):
        settings(precision="fp16")


def test_the_rate_is_that_of_the_step(tmp_path, monkeypatch):
    asked, original = [], loop.learning_rate

    def noted(training, epoch, step, steps):
        asked.append((epoch, step))
        return original(training, epoch, step, steps)

    monkeypatch.setattr(loop, "learning_rate", noted)
    train(Quadratic(steps=3), tmp_path / "state", settings(epochs=2, milestones=()))
    assert [step for step in asked if step[0] == 0][:3] == [(0, 0), (0, 1), (0, 2)]
    assert {(1, 3), (1, 4), (1, 5)} <= set(asked)


def test_a_run_stopped_in_its_first_epoch_says_that_it_continues(tmp_path, caplog):
    with pytest.raises(Interrupted):
        train(Quadratic(), tmp_path / "state", settings(), session(stop=StopAfter(2)))
    with caplog.at_level("INFO"):
        train(Quadratic(), tmp_path / "state", settings())
    assert "toy: continues after epoch 0, step 2" in caplog.text


def test_a_single_member_that_diverges_has_no_others(tmp_path, caplog):
    task = Quadratic()
    task.value = lambda parameters, x: (parameters["w"] - x).square().mean() * float("nan")
    with pytest.raises(UserError, match="the loss is not finite"):
        train(task, tmp_path / "state", settings())
    assert "the other members go on" not in caplog.text
