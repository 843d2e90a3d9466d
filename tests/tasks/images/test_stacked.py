"""The stack of the image task: it equals the task row by row, and networks that cannot be stacked are found out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from digits_task import digits_task
from pack_members import SGD
from tiny_study import STUDY
from toy_task import settings

from three_regime.random_streams import Streams
from three_regime.system.device import convolution_precision
from three_regime.tasks.images.stacked import ImageStack
from three_regime.tasks.images.task import ImageClassification
from three_regime.tasks.pack_sizes import pays_on_cpu
from three_regime.tasks.strategies import stacked


@pytest.fixture(scope="module")
def digits() -> ImageClassification:
    return digits_task(STUDY["model"], allowed="plain")


def test_evaluation_and_loss_of_rows_equal_those_of_the_task(digits):
    """On the last, partial batch of an epoch too."""
    stack = digits.stack("auto")
    training = settings(**SGD)
    networks = [digits.load(digits.initial_weights(Streams(("dense", seed))), "") for seed in (1, 2, 3)]
    rows = stack.rows(3)
    weights = stacked(networks, rows)
    streams = [Streams(("retrain", 1, min(row, 2))) for row in range(rows)]
    batches = stack.epoch(streams, 0, training)
    assert batches.steps == 4
    for step in (0, 3):
        fresh = {name: value.clone() for name, value in weights.items()}
        losses, errors, count = stack.loss(fresh, fresh, batches.micro_batches(step)[0])
        for row, network in enumerate(networks):
            ((pixels, labels),) = digits.epoch(streams[row], 0, training).micro_batches(step)
            own = {name: value.clone() for name, value in network.items()}
            loss, wrong, targets = digits.loss(own, own, (pixels, labels))
            assert (count, errors[row]) == (targets, wrong)
            assert targets == digits.targets((pixels, labels)) == stack.targets(batches.micro_batches(step)[0])
            torch.testing.assert_close(losses[row], loss, rtol=1e-5, atol=1e-6)
    for row, (found, network) in enumerate(zip(stack.evaluate(weights, "test"), networks, strict=False)):
        expected = digits.evaluate(network, "test")
        assert found.error == expected.error and found.nll == pytest.approx(expected.nll, rel=1e-5), row


def test_a_network_that_mixes_members_is_found_out(digits):
    class Mixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 4, 3)
            self.fc = torch.nn.Linear(4, 10)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            hidden = torch.nn.functional.layer_norm(self.conv(pixels).mean((2, 3)), ())
            return self.fc(hidden.softmax(1))

    assert not ImageStack(digits, Mixed(), None).reproduces(Mixed())
    assert digits.stack("auto").reproduces(digits.model)


def test_joint_computation_is_checked_in_fp32(digits):
    seen = []

    def look(*_: Any) -> None:
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))

    joint, single = digits.build(), digits.build()
    for module in (joint, single):
        module.register_forward_hook(look)
    with convolution_precision(tf32=True):
        assert ImageStack(digits, joint, None).reproduces(single)
        assert torch.backends.cudnn.allow_tf32
    assert seen == [(False, False)] * 3, "together, then each alone"


def test_too_little_memory_is_not_an_unsupported_network(digits):
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    joint = digits.build()
    joint.register_forward_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        ImageStack(digits, joint, None).reproduces(digits.model)


def test_small_networks_only_advance_together_on_a_cpu(digits):
    assert pays_on_cpu("auto", digits._multiply_adds) and not pays_on_cpu("auto", 40_000_000)
    assert not pays_on_cpu("off", 1) and pays_on_cpu(3, 40_000_000)
    assert digits.stack("off") is None
    assert digits.stack(3).width == 3 and 9 <= digits.stack("auto").width <= 32


def test_the_width_is_measured_once(digits, monkeypatch):
    """On a GPU less memory is free once members have been computed, which must not change their number."""
    sizes = itertools.count(2**22, 2**20)  # of which 4 and 3 fit
    monkeypatch.setattr(ImageStack, "_activation_bytes", lambda stack: next(sizes))
    stack = digits.stack("auto")
    assert stack.width == stack.width == 4
