"""Network sizes computed without torch, compared with the built networks."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from three_regime.errors import UserError
from three_regime.models import families
from three_regime.models.sizes import size, text_size

NAMES = (
    "preresnet-20", "preresnet-20x2", "preresnet-8x0.25", "preresnet-14",
    "vgg-11", "vgg-13", "vgg-16", "vgg-19", "densenet-40", "densenet-7k4", "densenet-10k24",
)  # fmt: skip


@pytest.mark.parametrize(("name", "side", "channels", "classes"), [
    *((name, 32, 3, 10) for name in NAMES),
    ("preresnet-8x0.25", 8, 1, 10), ("densenet-40", 16, 3, 100), ("preresnet-20", 32, 3, 100),
])  # fmt: skip
def test_sizes_are_those_of_the_built_network(name, side, channels, classes):
    network = families.build(name, classes=classes, channels=channels, image_size=side)
    found = size(name, classes=classes, channels=channels, image_size=side)
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    prunable = families.prunable(network)
    assert found.parameters == sum(value.numel() for value in parameters.values())
    assert found.prunable == sum(parameters[key].numel() for key in prunable)
    assert found.prunable_tensors == len(prunable)
    assert found.tensors == len(parameters) + len(buffers)
    assert found.buffer_bytes == sum(value.numel() * value.element_size() for value in buffers.values())
    assert found.multiply_adds == multiply_adds(network, torch.zeros(1, channels, side, side))


def test_the_base_transformer_has_the_parameters_of_its_layers():
    found = text_size("transformer-base", vocabulary=32_000)
    layer = 4 * 512**2 + 2 * 512 * 2048
    assert found.prunable == 6 * (layer + layer + 4 * 512**2)
    assert found.parameters == found.prunable + 2 * 32_000 * 512 + 6 * (
        12 * 512 + 2 * (2048 + 512) + 5 * 2 * 512
    )  # biases of attention and feed-forward, LayerNorms
    assert found.multiply_adds == found.prunable + 32_000 * 512


def test_a_network_has_the_size_of_its_kind_alone():
    with pytest.raises(UserError, match="is not a model for images"):
        size("transformer-base", classes=10, channels=3, image_size=32)
    with pytest.raises(UserError, match="is not a model for text"):
        text_size("vgg-19", vocabulary=100)


def multiply_adds(network: nn.Module, image: torch.Tensor) -> int:
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += module.weight.numel() * output[0, 0].numel() if output.ndim == 4 else module.weight.numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    network.eval()(image)
    return total


def test_sizes_need_no_torch():
    code = (
        "import sys; from three_regime.models.sizes import size;"
        "assert size('vgg-19', classes=10, channels=3, image_size=32).parameters == 20_040_522;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
