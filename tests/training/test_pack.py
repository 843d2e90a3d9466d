"""Packs in lock-step: each member's result is independent of the others, and of cuts, stops, kills and resumption."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_study import STUDY
from toy_task import Delivered, Quadratic, StopAfter, assert_same, session, settings, train

from three_regime.config import Training
from three_regime.datasets.registry import DATASETS
from three_regime.errors import Diverged, Interrupted, UserError
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.models.stacked import StackedNetwork
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks
from three_regime.random_streams import Streams
from three_regime.system.device import convolution_precision
from three_regime.system.files import read_metadata
from three_regime.tasks.images.stacked import ImageStack
from three_regime.tasks.images.task import ImageClassification
from three_regime.tasks.pack_sizes import evenly, pays_on_cpu
from three_regime.tasks.strategies import Alone, choose, stacked
from three_regime.training import saved_state
from three_regime.training.pack import Flat, Member
from three_regime.training.trainer import train_pack

DENSITIES = (0.1, 0.3, 1.0)
REPLICAS = (1, 2)
SGD = {"epochs": 2, "milestones": (1,), "batch_size": 32}
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": SGD,
    "sam": {**SGD, "sam_rho": 0.1},
    "adam": {**SGD, "optimiser": "adam", "learning_rate": 0.01},
    "clipped": {**SGD, "clip_norm": 0.1},
    "short": {**SGD, "epochs": 1, "milestones": ()},
    "iterations": {"iterations": 6, "milestones": (3,), "batch_size": 24, "drop_last": True},
}


@pytest.fixture(scope="module")
def images() -> ImageClassification:
    entry = DATASETS["digits"]
    return ImageClassification(
        entry, entry.read(Path()), STUDY["model"], torch.device("cpu"), train_images=100, test_images=50
    )


def pack_of(task: ImageClassification, folder: Path, size: int = 5) -> dict[str, tuple[Member, Delivered]]:
    """Return members of several densities and replicas, each with its delivered checkpoints."""
    dense = task.initial_weights(Streams(("dense", 1)))
    made = {}
    for density, replica in itertools.islice(itertools.product(DENSITIES, REPLICAS), size):
        masks = magnitude_masks(dense, task.prunable, density, "uniform")
        label, delivered = f"density {density}, replica {replica}", Delivered()
        streams = Streams(("retrain", 1, replica))
        start = apply_masks(dense, masks)
        member = Member(label, label, streams, start, masks, (), folder / f"{label}.state", delivered)
        made[label] = member, delivered
    return made


def train_members(task: Any, pack: dict[str, tuple[Member, Delivered]], training: Training, about=None) -> None:
    train_pack(task, training, [member for member, _ in pack.values()], about or session(evaluate_last=2))


def ends(pack: dict[str, tuple[Member, Delivered]]) -> dict[str, Any]:
    return {label: delivered[-1] if delivered else None for label, (_, delivered) in pack.items()}


@pytest.fixture(scope="module")
def together(images, tmp_path_factory) -> dict[str, Any]:
    """Checkpoints delivered by five undisturbed members."""
    pack = pack_of(images, tmp_path_factory.mktemp("together"))
    train_members(images, pack, settings(**SGD))
    return {label: list.__getitem__(delivered, -1) for label, (_, delivered) in pack.items()}


def last(pack: dict[str, tuple[Member, Delivered]], label: str) -> Any:
    return list.__getitem__(pack[label][1], -1)


def assert_others_unharmed(pack: dict[str, tuple[Member, Delivered]], label: str, together: dict[str, Any]) -> None:
    """Every member but one has the numbers of the undisturbed pack."""
    for other in pack:
        if other != label:
            assert_same(last(pack, other), together[other])


# -- networks side by side

FAMILIES = {"preresnet-8x0.25": 8, "preresnet-14x0.5": 8, "densenet-10k4": 8, "vgg-11": 32}


@pytest.fixture(scope="module", params=FAMILIES)
def network(request) -> tuple[torch.nn.Module, int]:
    side = FAMILIES[request.param]
    return families.build(request.param, classes=10, channels=3, image_size=side), side


def weights_of(network: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    drawn = initial_weights(network, Streams(("dense", seed)).generator("initialisation"))
    return {name: torch.from_numpy(np.array(value)) for name, value in drawn.items()}


def test_networks_side_by_side_compute_what_each_computes_alone(network):
    """Logits, gradients and running statistics, in training mode."""
    module, side = network
    generator = torch.Generator().manual_seed(0)
    members = [weights_of(module, seed) for seed in (1, 2)]
    pixels = torch.randn(2, 8, 3, side, side, generator=generator)
    wide = {name: value.clone() for name, value in stacked(members, 2).items()}
    parameters = [name for name, _ in module.named_parameters()]
    for name in parameters:
        wide[name].requires_grad_()
    logits = StackedNetwork(module.train())(wide, pixels.transpose(0, 1).flatten(1, 2))
    gradients = torch.autograd.grad(logits.logsumexp(2).sum(), [wide[name] for name in parameters])
    for row, weights in enumerate(members):
        alone = {name: weights[name].clone().requires_grad_(name in parameters) for name in weights}
        expected = torch.func.functional_call(module, alone, (pixels[row],))
        torch.testing.assert_close(logits[row], expected, rtol=1e-3, atol=1e-4)
        own = torch.autograd.grad(expected.logsumexp(1).sum(), [alone[name] for name in parameters])
        for ours, theirs in zip(gradients, own, strict=True):
            torch.testing.assert_close(ours[row], theirs, rtol=1e-2, atol=1e-3 * max(theirs.abs().max().item(), 1e-2))
        for name in set(weights) - set(parameters):
            torch.testing.assert_close(wide[name][row], alone[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "step"),
    [
        ("preresnet-8x0.25", 2), ("preresnet-8x0.1875", 8), ("preresnet-20", 1), ("vgg-11", 1),
        ("densenet-10", 2), ("densenet-10k24", 1), ("8 and 12 channels", 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("members", [1, 2, 3, 9])
def test_rows_fill_the_lanes_of_a_processor(model, step, members):
    """Of every BatchNorm: the narrowest may fill them where a wider one does not."""
    if model == "8 and 12 channels":
        module = torch.nn.Sequential(torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 12, 3), torch.nn.BatchNorm2d(12))
    else:
        side = 32 if model == "vgg-11" else 8
        module = families.build(model, classes=10, channels=1, image_size=side)
    network = StackedNetwork(module)
    rows = network.rows(members)
    assert members <= rows < members + 8 and rows >= 2
    assert rows == max(2, -(-members // step) * step)
    assert all(rows * norm.num_features % 8 == 0 for norm in network.norms)


def test_a_network_that_mixes_members_is_found_out(images):
    class Mixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 4, 3)
            self.fc = torch.nn.Linear(4, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            hidden = torch.nn.functional.layer_norm(self.conv(pixels).mean((2, 3)), ())
            return self.fc(hidden.softmax(1))

    assert not ImageStack(images, Mixed(), None).reproduces(Mixed())
    assert images.stack("auto").reproduces(images.model)


def test_joint_computation_is_checked_in_fp32(images):
    seen = []

    def look(*_: Any) -> None:
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))

    joint, single = images.build(), images.build()
    for module in (joint, single):
        module.register_forward_hook(look)
    with convolution_precision(tf32=True):
        assert ImageStack(images, joint, None).reproduces(single)
        assert torch.backends.cudnn.allow_tf32
    assert seen == [(False, False)] * 3, "together, then each alone"


def test_too_little_memory_is_not_an_unsupported_network(images):
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    joint = images.build()
    joint.register_forward_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        ImageStack(images, joint, None).reproduces(images.model)


# -- numbers


@pytest.mark.parametrize(
    ("chosen", "threads"), [("sgd", 1), ("sam", 1), ("adam", 1), ("clipped", 1), ("iterations", 1), ("short", 2)]
)
def test_a_member_is_the_same_in_any_pack(tmp_path, images, chosen, threads):
    """To the last bit: five together, in chunks of at most two, and each alone."""
    training = Training.model_validate(SETTINGS[chosen])
    found = {}
    for name, lockstep, alone in (("five", "auto", False), ("two", 2, False), ("alone", "auto", True)):
        pack = pack_of(images, tmp_path / name)
        about = replace(session(evaluate_last=2, lockstep=lockstep), threads=threads)
        for part in [{label: pack[label]} for label in pack] if alone else [pack]:
            train_members(images, part, training, about)
        found[name] = {label: last(pack, label) for label in pack}
    torch.set_num_threads(1)
    for label, checkpoint in found["five"].items():
        assert checkpoint.together == 5
        assert_same(found["two"][label], checkpoint)
        assert_same(found["alone"][label], checkpoint)
    assert not any(Path(tmp_path).rglob("*.state")), "the state of a finished member is removed"


@pytest.mark.parametrize("chosen", ["sgd", "sam", "adam"])
def test_together_equals_one_after_another_but_for_rounding(tmp_path, images, chosen):
    training = Training.model_validate(SETTINGS[chosen])
    pack, apart = pack_of(images, tmp_path / "a", 3), pack_of(images, tmp_path / "b", 3)
    train_members(images, pack, training)
    train_members(images, apart, training, session(evaluate_last=2, lockstep="off"))
    for label in pack:
        ours, theirs = last(pack, label), last(apart, label)
        assert (ours.together, theirs.together) == (3, 0)
        for name, value in ours.weights.items():
            np.testing.assert_allclose(value, theirs.weights[name], rtol=2e-3, atol=2e-4, err_msg=name)
        for mine, other in zip(ours.history, theirs.history, strict=True):
            assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
            assert mine["test_nll"] == pytest.approx(other["test_nll"], rel=1e-2)
            assert mine["test_error"] == pytest.approx(other["test_error"], abs=1.5 / 50)


def test_masks_stay_each_members_own(together, images, tmp_path):
    for label, (member, _) in pack_of(images, tmp_path).items():
        weights = together[label].weights
        for name, mask in member.masks.items():
            assert (weights[name][~mask] == 0).all() and (weights[name][mask] != 0).any()


def test_evaluation_and_loss_of_rows_equal_those_of_the_task(images):
    """On the last, partial batch of an epoch too."""
    stack = images.stack("auto")
    training = settings(**SGD)
    networks = [images.load(images.initial_weights(Streams(("dense", seed))), "") for seed in (1, 2, 3)]
    rows = stack.rows(3)
    weights = stacked(networks, rows)
    streams = [Streams(("retrain", 1, min(row, 2))) for row in range(rows)]
    batches = stack.epoch(streams, 0, training)
    assert batches.steps == 4
    for step in (0, 3):
        fresh = {name: value.clone() for name, value in weights.items()}
        losses, errors, count = stack.loss(fresh, fresh, batches.micro_batches(step)[0])
        for row, network in enumerate(networks):
            ((pixels, labels),) = images.epoch(streams[row], 0, training).micro_batches(step)
            own = {name: value.clone() for name, value in network.items()}
            loss, wrong, targets = images.loss(own, own, (pixels, labels))
            assert (count, errors[row]) == (targets, wrong)
            assert targets == images.targets((pixels, labels)) == stack.targets(batches.micro_batches(step)[0])
            torch.testing.assert_close(losses[row], loss, rtol=1e-5, atol=1e-6)
    for row, (found, network) in enumerate(zip(stack.evaluate(weights, "test"), networks, strict=False)):
        expected = images.evaluate(network, "test")
        assert found.error == expected.error and found.nll == pytest.approx(expected.nll, rel=1e-5), row


# -- interruptions


@pytest.mark.parametrize("asked", [1, 3, 4, 7])
def test_a_stopped_pack_continues_bit_identical(tmp_path, images, together, asked):
    pack = pack_of(images, tmp_path)
    with pytest.raises(Interrupted, match=r"a test: density 0.1, replica 1 and 4 more saved in"):
        train_members(images, pack, settings(**SGD), session(evaluate_last=2, stop=StopAfter(asked)))
    positions = [position_of(member) for member, _ in pack.values()]
    assert len(set(positions)) == 1 and positions[0] > (0, 0)
    train_members(images, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


def position_of(member: Member) -> tuple[int, int]:
    about = json.loads(read_metadata(member.state)["state"])
    return about["epoch"], about["step"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


@pytest.mark.parametrize("kill_at", [7, 13])
def test_killed_between_two_saves_the_members_behind_catch_up(tmp_path, images, together, monkeypatch, kill_at, caplog):
    """Some states are one step ahead of the others; all catch up and finish together, bit-identical."""
    pack = pack_of(images, tmp_path)
    save, saves = saved_state.save, itertools.count(1)

    def dying(*arguments: Any, **named: Any) -> None:
        if next(saves) == kill_at:
            raise Killed
        save(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(saved_state, "save", dying)
        with pytest.raises(Killed):
            train_members(images, pack, settings(**SGD), session(state_every_s=0, evaluate_last=2))
    assert len({position_of(member) for member, _ in pack.values()}) == 2
    with caplog.at_level("INFO"):
        train_members(images, pack, settings(**SGD))
    assert "from different steps" in caplog.text
    for label in pack:
        assert_same(last(pack, label), together[label])
        assert last(pack, label).together == 5


def test_a_finished_or_new_member_does_not_disturb_the_others(tmp_path, images, together):
    """Two members start and three join later, as for a density added to the grid."""
    pack = pack_of(images, tmp_path)
    first = dict(itertools.islice(pack.items(), 2))
    with pytest.raises(Interrupted):
        train_members(images, first, settings(**SGD), session(evaluate_last=2, stop=StopAfter(3)))
    train_members(images, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


def test_a_signal_during_delivery_keeps_what_was_delivered(tmp_path, images, together):
    pack = pack_of(images, tmp_path)
    about = session(evaluate_last=2)
    second = list(pack)[1]
    member, delivered = pack[second]

    def signalled(checkpoint: Any) -> None:
        about.stop.signalled(15, None)
        pytest.fail("went on after the signal")

    disturbed = {**pack, second: (replace(member, deliver=signalled), delivered)}
    with pytest.raises(Interrupted, match="SIGTERM"):
        train_members(images, disturbed, settings(**SGD), about)
    assert [len(delivered) for _, delivered in pack.values()] == [1, 0, 0, 0, 0]
    assert [member.state.exists() for member, _ in pack.values()] == [False, True, True, True, True]
    train_members(images, {label: pack[label] for label in list(pack)[1:]}, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


def test_a_pack_may_change_to_a_machine_without_a_compiler(tmp_path, images, together, monkeypatch):
    """Also if an earlier version began it, which recorded the kernels of the process."""
    pack = pack_of(images, tmp_path)
    with monkeypatch.context() as before:
        before.setattr(ImageStack, "computed_with", "fused")
        with pytest.raises(Interrupted):
            train_members(images, pack, settings(**SGD), session(evaluate_last=2, stop=StopAfter(3)))
    assert {saved_state.written_with(member.state, member.key) for member, _ in pack.values()} == {"fused"}
    train_members(images, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])
        assert last(pack, label).computed_with == "plain"


def test_a_state_of_the_other_way_is_refused(tmp_path, images):
    pack = pack_of(images, tmp_path, 1)
    with pytest.raises(Interrupted):
        train_members(images, pack, settings(**SGD), session(stop=StopAfter(2)))
    with pytest.raises(UserError, match=r"advanced in lock-step, and now they advance one after another.*`lockstep`"):
        train_members(images, pack, settings(**SGD), session(lockstep="off"))


# -- failures


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_diverging_member_does_not_stop_the_others(tmp_path, images, together, bad):
    pack = pack_of(images, tmp_path)
    label = list(pack)[bad]
    member, delivered = pack[label]
    start = {**member.start, "fc.weight": np.full_like(member.start["fc.weight"], np.nan)}
    pack[label] = replace(member, start=start), delivered
    with pytest.raises(UserError, match=rf"{label}: the loss is not finite in epoch 1, step 1 .*learning rate"):
        train_members(images, pack, settings(**SGD))
    assert not delivered and not member.state.exists()
    assert_others_unharmed(pack, label, together)


def test_a_member_that_diverges_later_leaves_its_earlier_state(tmp_path, images, together, monkeypatch):
    """In the middle of the second epoch: the losses of one row become infinite."""
    pack = pack_of(images, tmp_path)
    label = list(pack)[1]
    loss, passes = ImageStack.loss, itertools.count()

    def spoilt(self: ImageStack, *arguments: Any) -> Any:
        losses, errors, count = loss(self, *arguments)
        if len(losses) == 6 and next(passes) == 6:  # five members and a row to fill up
            losses = losses * torch.tensor([1.0, float("inf"), *[1.0] * (len(losses) - 2)])
        return losses, errors, count

    monkeypatch.setattr(ImageStack, "loss", spoilt)
    with pytest.raises(UserError, match=rf"{label}: the loss is not finite in epoch 2, step 3"):
        train_members(images, pack, settings(**SGD), session(state_every_s=0, evaluate_last=2))
    assert position_of(pack[label][0]) == (1, 2)
    assert_others_unharmed(pack, label, together)


def test_a_test_loss_that_is_not_finite_costs_that_member_alone(tmp_path, images, together, monkeypatch):
    pack = pack_of(images, tmp_path)
    label = list(pack)[3]
    evaluate = ImageStack.evaluate

    def spoilt(self: ImageStack, *arguments: Any) -> Any:
        found = evaluate(self, *arguments)
        return [replace(each, nll=float("nan")) if row == 3 else each for row, each in enumerate(found)]

    with monkeypatch.context() as patched:
        patched.setattr(ImageStack, "evaluate", spoilt)
        with pytest.raises(UserError, match=rf"{label}: the test loss is not finite after epoch 1"):
            train_members(images, dict(itertools.islice(pack.items(), 4)), settings(**SGD))
    assert not pack[label][1]
    first = next(iter(pack))
    assert_same(last(pack, first), together[first])


def refusing(pack: dict[str, tuple[Member, Delivered]], label: str, error: Exception) -> None:
    """Let the delivery to a member fail."""

    def deliver(checkpoint: Any) -> None:
        raise error

    member, delivered = pack[label]
    pack[label] = replace(member, deliver=deliver), delivered


def test_a_result_that_is_no_number_costs_that_member_alone(tmp_path, images, together):
    pack = pack_of(images, tmp_path)
    label = list(pack)[1]
    refusing(pack, label, Diverged("the training loss is infinite"))
    with pytest.raises(UserError, match=rf"{label}: a result is not a finite number after epoch 2 .*learning rate"):
        train_members(images, pack, settings(**SGD))
    assert_others_unharmed(pack, label, together)


def test_an_interrupted_delivery_may_diverge_too(tmp_path, images, together):
    """It is delivered first when the pack continues, while another member starts anew."""
    pack = pack_of(images, tmp_path)
    about = session(evaluate_last=2)
    third = list(pack)[2]
    undisturbed = pack[third]
    refusing(pack, third, Interrupted("asked to stop"))
    with pytest.raises(Interrupted):
        train_members(images, pack, settings(**SGD), about)
    pack[third] = undisturbed
    refusing(pack, third, Diverged("the training loss is infinite"))
    with pytest.raises(UserError, match=f"{third}: a result is not a finite number"):
        train_members(images, pack, settings(**SGD))
    assert_others_unharmed(pack, third, together)


def test_a_full_disk_stops_the_pack(tmp_path, images):
    pack = pack_of(images, tmp_path)
    second = list(pack)[1]
    refusing(pack, second, UserError("no free disk space"))
    with pytest.raises(UserError, match="^no free disk space$"):
        train_members(images, pack, settings(**SGD))
    assert [len(delivered) for _, delivered in pack.values()] == [1, 0, 0, 0, 0]


def test_members_one_after_another_go_on_after_a_failure_too(tmp_path):
    task = Quadratic(steps=2)
    from toy_task import member

    first, second = Delivered(), Delivered()
    good = member(task, tmp_path / "good", second, label="good")
    bad = member(task, tmp_path / "bad", first, label="bad", start={**good.start, "w": np.full(6, np.nan, np.float32)})
    with pytest.raises(UserError, match="bad: the loss is not finite in epoch 1, step 1"):
        train_pack(task, settings(), [bad, good], session())
    assert not first and len(second) == 1


# -- which way


def test_small_networks_only_advance_together_on_a_cpu(images):
    assert pays_on_cpu("auto", images._multiply_adds) and not pays_on_cpu("auto", 40_000_000)
    assert not pays_on_cpu("off", 1) and pays_on_cpu(3, 40_000_000)
    assert images.stack("off") is None
    assert images.stack(3).width == 3 and 9 <= images.stack("auto").width <= 32


def test_the_width_is_measured_once(images, monkeypatch):
    """On a GPU less memory is free once members have been computed, which must not change their number."""
    sizes = itertools.count(2**22, 2**20)  # of which 4 and 3 fit
    monkeypatch.setattr(ImageStack, "_activation_bytes", lambda stack: next(sizes))
    stack = images.stack("auto")
    assert stack.width == stack.width == 4


def test_a_task_that_cannot_stack_advances_one_after_another(tmp_path):
    assert isinstance(choose(Quadratic(), 9, lambda _: 0.0), Alone)
    assert train(Quadratic(), tmp_path / "state", settings())[4].together == 0


@pytest.mark.parametrize("faster", [True, False])
def test_on_a_gpu_a_timing_decides(images, faster, monkeypatch):
    class Elsewhere:
        """The image task, as far as `choose` looks, on a GPU."""

        device = torch.device("cuda")

        def stack(self, choice: str) -> ImageStack | None:
            return images.stack(choice)

    found = choose(Elsewhere(), "auto", lambda stack: 1.0 if stack.together == faster else 2.0)
    assert found.together == faster


def test_the_timing_changes_nothing(images, tmp_path, together):
    from three_regime.training.trainer import _seconds

    pack = pack_of(images, tmp_path)
    members = [member for member, _ in pack.values()]
    for stack in (images.stack("auto"), Alone(images)):
        assert _seconds(images, settings(**SGD), members, stack) > 0
    train_members(images, pack, settings(**SGD))
    for label in pack:
        assert_same(last(pack, label), together[label])


def test_packs_are_cut_evenly():
    assert evenly(10, 32) == [10] and evenly(33, 32) == [17, 16] and evenly(27, 9) == [9, 9, 9] and evenly(0, 4) == []
    for count, most in itertools.product(range(1, 40), range(1, 12)):
        sizes = evenly(count, most)
        assert sum(sizes) == count and max(sizes) <= most and max(sizes) - min(sizes) <= 1


def test_rows_of_a_flat_stack_are_views():
    flat = Flat({"a": (2, 3), "b": ()})
    rows = torch.arange(14.0).view(2, 7)
    views = flat.views(rows)
    assert views["a"].shape == (2, 2, 3) and views["b"].tolist() == [6, 13]
    views["b"].fill_(1)
    assert rows[:, 6].tolist() == [1, 1]
