"""Networks side by side in one: each computes what it computes alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.models.stacked import StackedNetwork
from three_regime.random_streams import Streams
from three_regime.tasks.strategies import stacked

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
