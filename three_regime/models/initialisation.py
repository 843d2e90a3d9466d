"""Initial weights, drawn with NumPy so they depend neither on torch's generator nor on the device.

The rules are those of the authors' code: BatchNorm is the identity; convolutions are normal with a standard deviation
given by their fan; the classifier has torch's default (PreResNet, DenseNet) or a small normal distribution (VGG).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from three_regime.system.files import Arrays


@dataclass(frozen=True)
class Initialisation:
    """Initialisation rule of a model family; the attribute ``initialisation`` of its network class.

    Attributes
    ----------
    convolution
        Channels (``in`` or ``out``) in a convolution's standard deviation √(2 / (kernel area · channels)). Convolution
        biases are 0.
    linear
        ``uniform``: classifier weight and bias from U(±1/√inputs), torch's default. ``small``: weight from N(0, 0.01²),
        bias 0.
    """

    convolution: Literal["in", "out"]
    linear: Literal["uniform", "small"]


def initial_weights(model: nn.Module, generator: np.random.Generator) -> Arrays:
    """Draw initial values of all parameters and buffers of `model`, which is not modified.

    Parameters
    ----------
    model
        A network whose class has an ``initialisation``.
    generator
        Random generator, used in parameter order, so equal generators give equal weights.

    Returns
    -------
    Arrays
        Names and order of ``model.state_dict()``; float32, except ``num_batches_tracked`` (int64, zero).

    Raises
    ------
    TypeError
        When a layer with parameters is not a convolution, BatchNorm or linear layer.
    """
    rule: Initialisation = model.initialisation
    return {
        f"{prefix}.{name}" if prefix else name: value
        for prefix, module in model.named_modules()
        for name, value in _draw(module, rule, generator).items()
    }


def _draw(module: nn.Module, rule: Initialisation, generator: np.random.Generator) -> Arrays:
    match module:
        case nn.Conv2d():
            outputs, inputs, height, width = module.weight.shape
            fan = height * width * (inputs if rule.convolution == "in" else outputs)
            arrays = {"weight": _normal(generator, module.weight.shape, math.sqrt(2 / fan))}
            return arrays | ({} if module.bias is None else {"bias": np.zeros(outputs, np.float32)})
        case nn.BatchNorm2d():
            size = module.num_features
            return {
                "weight": np.ones(size, np.float32),
                "bias": np.zeros(size, np.float32),
                "running_mean": np.zeros(size, np.float32),
                "running_var": np.ones(size, np.float32),
                "num_batches_tracked": np.zeros((), np.int64),
            }
        case nn.Linear() if rule.linear == "small":
            return {
                "weight": _normal(generator, module.weight.shape, 0.01),
                "bias": np.zeros(module.out_features, np.float32),
            }
        case nn.Linear():
            bound = 1 / math.sqrt(module.in_features)
            return {
                name: generator.uniform(-bound, bound, tuple(value.shape)).astype(np.float32)
                for name, value in module.named_parameters()
            }
        case _ if any(True for _ in module.parameters(recurse=False)):
            raise TypeError(f"no initial weights are defined for {type(module).__name__}")
    return {}


def _normal(generator: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    return generator.standard_normal(tuple(shape), dtype=np.float32) * np.float32(deviation)
