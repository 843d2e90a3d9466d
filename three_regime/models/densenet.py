"""DenseNet with basic layers and without compression (Huang et al. 2017, as in the authors' code).

Three dense blocks at full, half and quarter resolution; each layer appends `growth` channels to its input.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from three_regime.kernels.graph import Graph
from three_regime.models.initialisation import Initialisation
from three_regime.models.layers import Convolution3x3, NormRelu


class Layer(nn.Module):
    """BatchNorm-ReLU-3×3 convolution, concatenated to its input.

    Parameters
    ----------
    inputs
        Input channels.
    growth
        Channels added.
    """

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = NormRelu(inputs)
        self.conv1 = Convolution3x3(inputs, growth)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) → (N, inputs + growth, H, W)."""
        result, images = self.bn1.convolved(self.conv1, images)
        return torch.cat((images, result), 1)


class Transition(nn.Module):
    """BatchNorm-ReLU-1×1 convolution with equal input and output `channels`, then a 2×2 average pool."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = NormRelu(channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) → (N, channels, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv1(self.bn1(images)), 2)


class DenseNet(nn.Module):
    """DenseNet of depth 3n + 4; parameter names are those of the authors' checkpoints.

    Parameters
    ----------
    layers
        Layers per dense block, n.
    growth
        Channels added by each layer; the first convolution has twice as many.
    classes
        Number of logits.
    channels
        Colour channels of the images.
    """

    initialisation: ClassVar = Initialisation(convolution="out", linear="uniform")

    def __init__(self, layers: int, growth: int, classes: int, channels: int) -> None:
        super().__init__()
        stem, after_first, after_second, after_third = (growth * (2 + block * layers) for block in range(4))
        self.conv1 = Convolution3x3(channels, stem)
        self.dense1 = _dense(stem, layers, growth)
        self.trans1 = Transition(after_first)
        self.dense2 = _dense(after_first, layers, growth)
        self.trans2 = Transition(after_second)
        self.dense3 = _dense(after_second, layers, growth)
        self.bn = NormRelu(after_third)
        self.fc = nn.Linear(after_third, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, channels, side, side), side divisible by 4 → logits (N, classes)."""
        hidden = self.trans1(self.dense1(self.conv1(images)))
        hidden = self.dense3(self.trans2(self.dense2(hidden)))
        # For 32×32 images the spatial mean equals the authors' 8×8 average pool.
        return self.fc(self.bn(hidden).mean((2, 3)))

    def lowered(self, graph: Graph) -> None:
        """See `three_regime.kernels.graph.Lowerable`.

        A dense block is one feature map, to which its layers write one after another. A 1×1 convolution and an average
        pool commute; pooling first saves three quarters of the convolution's work.
        """
        stem, source = self.conv1.out_channels, graph.image
        for block in (1, 2, 3):
            layers = getattr(self, f"dense{block}")
            growth = layers[0].conv1.out_channels
            first = stem if block == 1 else getattr(self, f"trans{block - 1}").conv1.out_channels
            hidden = graph.map(first + growth * len(layers), source.side)
            name, kernel = ("conv1", 3) if block == 1 else (f"trans{block - 1}.conv1", 1)
            graph.convolution(source, name, first, kernel=kernel, into=hidden)
            for index, layer in enumerate(layers):
                inputs, name = layer.conv1.in_channels, f"dense{block}.{index}"
                graph.convolution(
                    hidden, f"{name}.conv1", growth, norm=f"{name}.bn1", inputs=inputs, into=hidden, first=inputs
                )  # fmt: skip
            if block < 3:
                source = graph.pool(hidden, f"trans{block}.bn1", "average")
        graph.head(hidden, "bn", "fc", self.fc.out_features)


def _dense(inputs: int, layers: int, growth: int) -> nn.Sequential:
    return nn.Sequential(*(Layer(inputs + layer * growth, growth) for layer in range(layers)))


def build(depth: int, width: float, classes: int, channels: int) -> DenseNet:
    """DenseNet-`depth` with growth rate `width`, an integer."""
    return DenseNet((depth - 4) // 3, int(width), classes, channels)
