"""Optimisers: torch's update rules on a flat vector, SAM in closed form, and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_study import STUDY
from toy_task import SIZE, Quadratic, session, settings, train

from three_regime.config.optimisers import OPTIMISERS
from three_regime.datasets.registry import DATASETS
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks
from three_regime.random_streams import Streams
from three_regime.tasks.images.task import ImageClassification
from three_regime.training.learning_rate import learning_rate
from three_regime.training.optimisers import UPDATES

LIKE_TORCH = {
    "sgd": lambda p, s: torch.optim.SGD(
        p, s.learning_rate, momentum=s.momentum, dampening=0, weight_decay=s.weight_decay
    ),
    "adam": lambda p, s: torch.optim.Adam(p, s.learning_rate, s.betas, s.epsilon, weight_decay=s.weight_decay),
}


@pytest.mark.parametrize(
    "chosen",
    [
        {"optimiser": "sgd", "momentum": 0.9, "weight_decay": 0.01},
        {"optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0},
        {"optimiser": "adam", "learning_rate": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99), "epsilon": 1e-6},
        {"optimiser": "adam", "learning_rate": 0.001},
    ],
)
def test_equals_torch_over_twenty_steps(tmp_path, chosen):
    training = settings(**chosen)
    task, streams = Quadratic(), Streams(("retrain", 1, 1))
    found = train(task, tmp_path / "state", training)[4].weights

    start = task.initial_weights(streams)
    expected = {name: torch.tensor(start[name], requires_grad=True) for name in task.parameters}
    optimiser = LIKE_TORCH[training.optimiser](list(expected.values()), training)
    for epoch in range(4):
        optimiser.param_groups[0]["lr"] = learning_rate(training, epoch, 5 * epoch)
        for step in range(5):
            optimiser.zero_grad()
            task.value(expected, *task.epoch(streams, epoch, training).micro_batches(step)).backward()
            optimiser.step()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.detach().numpy(), rtol=2e-5, atol=1e-6)
        assert np.abs(found[name] - start[name]).max() > 1e-3


def test_placements_of_epsilon_differ_by_bias_correction():
    """√v + ε, corrected as a whole (fairseq), or √v corrected and then ε (torch): the same for a corrected ε."""
    gradient = torch.tensor([1e-9, 1e-6, 1.0])
    for step in (0, 5, 5000):
        ends = {}
        for placement, epsilon in (("torch", 1e-8), ("fairseq", 1e-8 * (1 - 0.999 ** (step + 1)) ** 0.5)):
            training = settings(optimiser="adam", weight_decay=0, epsilon=epsilon, epsilon_placement=placement)
            slots = {"first": torch.zeros(3), "second": gradient**2 * 0.5}
            ends[placement] = torch.zeros(3)
            UPDATES["adam"](ends[placement], gradient.clone(), slots, training, 0.1, step)
        torch.testing.assert_close(ends["torch"], ends["fairseq"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_members_in_a_stack_advance_as_alone(name):
    """A leading member dimension changes nothing: lock-step packs may use the same functions."""
    update, training = UPDATES[name], settings(optimiser=name, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    stack, gradients = torch.randn(2, 3, SIZE, generator=generator)
    slots = {slot: torch.rand(3, SIZE, generator=generator) for slot in OPTIMISERS[name].slots}
    alone = [
        (stack[k].clone(), gradients[k].clone(), {slot: value[k].clone() for slot, value in slots.items()})
        for k in range(3)
    ]
    update(stack, gradients, slots, training, 0.1, 4)
    for k, (vector, gradient, own) in enumerate(alone):
        update(vector, gradient, own, training, 0.1, 4)
        assert torch.equal(vector, stack[k])
        assert all(torch.equal(own[slot], slots[slot][k]) for slot in slots)


def test_a_sam_step_on_a_quadratic(tmp_path):
    """w' = w − η (A (w + ρ g/‖g‖ − b) + λ w) with g = A (w − b): one norm over all parameters, decay at w."""
    training = settings(epochs=1, milestones=(), momentum=0.0, weight_decay=0.05, sam_rho=0.3)
    task = Quadratic(noise=0.0, steps=1)
    start = task.initial_weights(Streams(("retrain", 1, 1)))
    found = train(task, tmp_path / "state", training)[1].weights

    w = np.concatenate([start["w"], start["c"]]).astype(np.float64)
    a = np.append(task.curvature.numpy(), 1.0).astype(np.float64)
    b = np.append(task.target.numpy(), 0.0).astype(np.float64)
    g = a * (w - b)
    raised = w + 0.3 * g / np.linalg.norm(g)
    expected = w - 0.1 * (a * (raised - b) + 0.05 * w)
    np.testing.assert_allclose(np.concatenate([found["w"], found["c"]]), expected, rtol=1e-6)
    assert found["seen"] == 1, "the second pass must not touch the buffers"


def test_sam_with_masks_climbs_within_the_kept_weights(tmp_path):
    mask = np.array([1, 0, 1, 0, 1, 0], bool)
    training = settings(epochs=1, milestones=(), momentum=0.0, weight_decay=0.0, sam_rho=0.3)
    task = Quadratic(noise=0.0, steps=1)
    start = task.initial_weights(Streams(("retrain", 1, 1)))
    start["w"] *= mask
    found = train(task, tmp_path / "state", training, start=start, masks={"w": mask})[1].weights["w"]

    kept, a, b = start["w"], task.curvature.numpy(), task.target.numpy()
    g = a * (kept - b) * mask
    norm = np.sqrt((g**2).sum() + start["c"][0] ** 2)  # the unmasked parameter counts
    expected = (kept - 0.1 * a * (kept + 0.3 * g / norm - b)) * mask
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def images() -> ImageClassification:
    entry = DATASETS["digits"]
    arrays = entry.read(Path())
    return ImageClassification(
        entry, arrays, STUDY["model"], torch.device("cpu"), train_images=48, test_images=20
    )  # fmt: skip


def test_sam_updates_running_statistics_once_a_step(tmp_path, images):
    """One SAM step leaves the statistics of one plain pass at w, and counts one batch."""
    short = {"epochs": 1, "milestones": (), "batch_size": 48}
    plain = train(images, tmp_path / "a", settings(**short))[1].weights
    sam = train(images, tmp_path / "b", settings(**short, sam_rho=0.5))[1].weights
    for name in images.buffers:
        np.testing.assert_array_equal(plain[name], sam[name], err_msg=name)
    assert {int(sam[name]) for name in images.buffers if name.endswith("tracked")} == {1}
    assert any((plain[name] != sam[name]).any() for name in images.parameters)


@pytest.mark.parametrize("chosen", [{}, {"optimiser": "adam", "learning_rate": 0.01}, {"sam_rho": 0.1}])
def test_masked_weights_stay_exactly_zero(tmp_path, images, chosen):
    streams = Streams(("retrain", 1, 1))
    dense = images.initial_weights(streams)
    masks = magnitude_masks(dense, images.prunable, 0.2, "uniform")
    start = apply_masks(dense, masks)
    training = settings(epochs=2, milestones=(), batch_size=16, weight_decay=0.1, **chosen)
    seen = []
    loss = images.loss

    def watched(parameters, buffers, batch):
        seen.append(max(float(parameters[name].detach()[~torch.from_numpy(masks[name])].abs().max()) for name in masks))
        return loss(parameters, buffers, batch)

    images.loss = watched
    try:
        alone = session(lockstep="off")
        found = train(images, tmp_path / "state", training, alone, start=start, masks=masks)[2].weights
    finally:
        del images.loss
    assert len(seen) == 6 * (2 if training.sam_rho else 1)
    assert set(seen) == {0.0}, "during training, in both passes of SAM"
    for name, mask in masks.items():
        assert (found[name][~mask] == 0).all()
        assert (found[name][mask] != start[name][mask]).any()
