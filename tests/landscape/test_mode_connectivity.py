"""LMC compared with a plain re-implementation of the authors' protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_study import STUDY
from torch import nn
from toy_task import settings, train

from three_regime.datasets.registry import DATASETS
from three_regime.landscape.mode_connectivity import Point, barrier, between, inside, line, measure, positions
from three_regime.models import families
from three_regime.random_streams import Streams
from three_regime.tasks.images.task import ImageClassification
from three_regime.tasks.interface import Metrics, Stack
from three_regime.tasks.pack_sizes import Lockstep
from three_regime.tasks.strategies import choose

TRAIN, TEST, BATCH, POINTS = 150, 60, 64, 5  # batches of 64, 64 and 22 images


@pytest.fixture(scope="module")
def task() -> ImageClassification:
    entry = DATASETS["digits"]
    device = torch.device("cpu")
    return ImageClassification(
        entry, entry.read(Path()), STUDY["model"], device, train_images=TRAIN, test_images=TEST
    )  # fmt: skip


@pytest.fixture(scope="module")
def replicas(task, tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """Two partially trained networks with their own BatchNorm statistics."""
    training = settings(epochs=3, milestones=(), batch_size=16)
    state = tmp_path_factory.mktemp("replicas") / "state"
    checkpoints = [train(task, state, training, streams=Streams(("dense", seed)))[3] for seed in (1, 2)]
    return [task.load(checkpoint.weights, "replica") for checkpoint in checkpoints]


def plain_images(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    entry = DATASETS["digits"]
    arrays = entry.read(Path())
    pixels = torch.from_numpy(arrays[f"{split}_images"][:count]).permute(0, 3, 1, 2).double() / 255
    return ((pixels - entry.mean[0]) / entry.std[0]).float(), torch.from_numpy(arrays[f"{split}_labels"][:count])


def reestimated(weights: dict[str, torch.Tensor], images: torch.Tensor) -> nn.Module:
    """A network whose statistics are the batches' own mean and unbiased variance, weighted by n_batch / N.

    Hooks read the input of each BatchNorm in training mode; nothing of torch's running average is used.
    """
    network = families.build(STUDY["model"], classes=10, channels=1, image_size=8)
    network.load_state_dict(weights)
    network.train()
    sums = {}

    def note(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        x = inputs[0].detach().double()
        share = len(x) / len(images)
        mean, variance = sums.setdefault(norm, [0, 0])
        sums[norm] = [
            mean + share * x.mean((0, 2, 3)),
            variance + share * x.transpose(0, 1).flatten(1).var(1, unbiased=True),
        ]

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    with torch.no_grad():
        for batch in images.split(BATCH):
            network(batch)
    for hook in hooks:
        hook.remove()
    for norm, (mean, variance) in sums.items():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return network.eval()


def plain_errors(network: nn.Module, split: str, count: int) -> tuple[float, float]:
    images, labels = plain_images(split, count)
    with torch.no_grad():
        logits = network(images)
    return (logits.argmax(1) != labels).double().mean().item(), F.cross_entropy(logits.double(), labels).item()


@pytest.fixture(params=["off", "auto"])
def stack(task, request) -> Stack:
    """Parametrise over points measured one at a time and together."""
    return stack_of(task, request.param)


def stack_of(task: ImageClassification, choice: Lockstep) -> Stack:
    found = choose(task, choice, lambda _: pytest.fail("no timing on a CPU"))
    assert found.together == (choice != "off")
    return found


def measured(stack: Stack, weights: dict[str, torch.Tensor]) -> Point:
    (point,) = measure(stack, [weights], BATCH, None)
    return point


def line_between(stack: Stack, task, first, second, points: int = POINTS, images: int | None = None) -> dict:
    networks = [first, *inside(task, first, second, points), second]
    return line(list(measure(stack, networks, BATCH, images)))


def test_ends_equal_each_replica_after_the_same_reestimation(stack, task, replicas):
    result = line_between(stack, task, *replicas, points=POINTS, images=None)
    images, _ = plain_images("train", TRAIN)
    for place, weights in ((0, replicas[0]), (-1, replicas[1])):
        network = reestimated(weights, images)
        for split, count in (("train", TRAIN), ("test", TEST)):
            error, nll = plain_errors(network, split, count)
            assert result[f"{split}_error"][place] == pytest.approx(error, abs=1e-12)
            assert result[f"{split}_nll"][place] == pytest.approx(nll, rel=1e-4)


def test_the_middle_equals_the_plain_mean_of_all_parameters(stack, task, replicas):
    result = line_between(stack, task, *replicas, points=3, images=None)
    mean = {name: (value + replicas[1][name]) / 2 if value.is_floating_point() else value
            for name, value in replicas[0].items()}  # fmt: skip
    images, _ = plain_images("train", TRAIN)
    error, nll = plain_errors(reestimated(mean, images), "train", TRAIN)
    assert result["train_error"][1] == pytest.approx(error, abs=1e-12)
    assert result["train_nll"][1] == pytest.approx(nll, rel=1e-4)
    assert 0 < result["train_error"][0] < 0.8, "the replicas must have learnt something"


def test_own_statistics_do_not_enter(stack, task, replicas):
    """The points are the same whatever the replicas' running statistics."""
    spoilt = {name: value + 5 if name.endswith(("running_mean", "running_var")) else value
              for name, value in replicas[0].items()}  # fmt: skip
    assert measured(stack, spoilt) == measured(stack, replicas[0])


def test_statistics_of_the_first_images_only(task, replicas):
    limited = task.reestimate(replicas[0], BATCH, 80)
    expected = reestimated(replicas[0], plain_images("train", 80)[0]).state_dict()
    whole = task.reestimate(replicas[0], BATCH)
    for name in task.buffers:
        if not name.endswith("tracked"):
            torch.testing.assert_close(limited[name], expected[name], rtol=1e-4, atol=1e-5)
            assert not torch.equal(limited[name], whole[name])


def test_measuring_leaves_the_weights_and_the_model_alone(stack, task, replicas):
    before = {name: value.clone() for name, value in replicas[0].items()}
    momenta = [module.momentum for module in task.model.modules() if isinstance(module, nn.BatchNorm2d)]
    line_between(stack, task, *replicas, points=3, images=None)
    for name, value in before.items():
        assert torch.equal(replicas[0][name], value), name
    assert momenta == [module.momentum for module in task.model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_lerp_is_exact_at_the_ends_and_counters_stay(task, replicas):
    first, second = replicas
    at_start, at_end, midway = (between(task, first, second, t) for t in (0.0, 1.0, 0.5))
    for name in task.parameters:
        assert torch.equal(at_start[name], first[name])
        assert torch.equal(at_end[name], second[name])
    for name in task.buffers:
        assert torch.equal(midway[name], first[name])
        if name.endswith("tracked"):
            assert midway[name].dtype == torch.int64


def test_of_a_network_with_itself_is_zero(stack, task, replicas):
    result = line_between(stack, task, replicas[0], replicas[0])
    assert result["lmc"] == result["lmc_test"] == 0
    assert result["lmc_nll"] == result["lmc_test_nll"] == 0
    assert len(set(result["train_error"])) == 1


def test_swapping_the_replicas_reverses_the_line(stack, task, replicas):
    forth, back = (line_between(stack, task, *pair) for pair in (replicas, replicas[::-1]))
    for curve in ("train_error", "test_error"):
        np.testing.assert_allclose(forth[curve], back[curve][::-1], atol=1.5 / TEST)
    np.testing.assert_allclose(forth["train_nll"], back["train_nll"][::-1], rtol=1e-4)
    assert abs(forth["lmc_nll"]) == pytest.approx(abs(back["lmc_nll"]), rel=1e-3)
    assert abs(forth["lmc"]) == pytest.approx(abs(back["lmc"]), abs=1.5 / TRAIN)
    assert forth["train_error"] != pytest.approx(forth["train_error"][::-1], abs=1e-9)


def test_the_result_has_what_is_promised(stack, task, replicas):
    result = line_between(stack, task, *replicas, points=POINTS, images=40)
    curves = ("t", "train_error", "train_nll", "test_error", "test_nll")
    assert all(len(result[name]) == POINTS for name in curves)
    assert set(result) == {*curves, "lmc", "lmc_nll", "lmc_test", "lmc_test_nll"}
    assert result["lmc"] == barrier(result["train_error"])


def test_each_barrier_is_that_of_its_own_curve() -> None:
    """Four curves with different barriers, so none can be mistaken for another."""
    rises = {"train_error": 0.1, "train_nll": 0.2, "test_error": 0.3, "test_nll": 0.4}
    middle = [Point(Metrics(rises["train_error"], rises["train_nll"]), Metrics(rises["test_error"], rises["test_nll"]))]
    ends = Point(Metrics(0.0, 0.0), Metrics(0.0, 0.0))
    result = line([ends, *middle, ends])
    assert {name: result[name][1] for name in rises} == rises
    assert (result["lmc"], result["lmc_nll"], result["lmc_test"], result["lmc_test_nll"]) == (-0.1, -0.2, -0.3, -0.4)


def test_points_together_equal_points_one_after_another(task, replicas):
    apart, together = (line_between(stack_of(task, choice), task, *replicas) for choice in ("off", "auto"))
    for curve, images in (("train_error", TRAIN), ("test_error", TEST)):
        np.testing.assert_allclose(together[curve], apart[curve], atol=1.5 / images)
    for curve in ("train_nll", "test_nll"):
        np.testing.assert_allclose(together[curve], apart[curve], rtol=1e-4)
    assert together["lmc"] == pytest.approx(apart["lmc"], abs=1.5 / TRAIN)


def test_how_many_points_are_measured_together_does_not_matter(task, replicas):
    widths = [line_between(stack_of(task, choice), task, *replicas) for choice in ("auto", 2, 3)]
    assert widths[0] == widths[1] == widths[2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.5, 0.3], -0.3),  # a barrier is negative
        ([0.3, 0.1, 0.3], 0.2),  # a valley is positive
        ([0.0, 0.0, 0.0], 0.0),
        ([0.2, 0.4, 0.0, 0.2], -0.2),  # the first of two equal deviations
        ([0.2, 0.0, 0.4, 0.2], 0.2),
        ([0.0, 0.5, 0.5, 1.0], 0.5),  # an end may deviate most; the first does
        ([0.25, 0.5, 1.0, 0.25], -0.75),
    ],
)
def test_barrier_is_the_first_largest_deviation(values, expected):
    assert barrier(values) == pytest.approx(expected, abs=1e-15)


def test_the_barrier_does_not_depend_on_the_direction():
    generator = np.random.default_rng(0)
    for values in generator.random((200, 11)):
        assert abs(barrier(values)) == pytest.approx(abs(barrier(values[::-1])), abs=1e-15)


def test_positions():
    assert positions(11) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert positions(3) == [0, 0.5, 1]
