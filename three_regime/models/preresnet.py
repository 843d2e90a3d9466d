"""PreResNet: pre-activation residual network for small images (He et al. 2016, as in the authors' code).

Three stages of basic blocks at full, half and quarter resolution with 16/32/64 channels times the width factor. The
1×1 shortcut convolution has no BatchNorm and takes the raw block input, not the pre-activated one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from three_regime.kernels.graph import Graph, Map
from three_regime.models.initialisation import Initialisation
from three_regime.models.layers import Convolution3x3, NormRelu, Shortcut


class Block(nn.Module):
    """Basic block: BatchNorm-ReLU-convolution twice, added to the shortcut.

    Parameters
    ----------
    inputs, outputs
        Input and output channels.
    stride
        Stride of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = NormRelu(inputs)
        self.conv1 = Convolution3x3(inputs, outputs, stride)
        self.bn2 = NormRelu(outputs)
        self.conv2 = Convolution3x3(outputs, outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(Shortcut(inputs, outputs, stride))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        hidden, images = self.bn1.convolved(self.conv1, images)
        shortcut = images if self.downsample is None else self.downsample(images)
        return self.bn2.convolved(self.conv2, hidden, shortcut)[0]

    def lowered(self, graph: Graph, source: Map, name: str) -> Map:
        """Add the block's layers to `graph`, in the order of `forward`."""
        outputs, stride = self.conv1.out_channels, self.conv1.stride[0]
        hidden = graph.convolution(source, f"{name}.conv1", outputs, norm=f"{name}.bn1", stride=stride)
        shortcut = source
        if self.downsample is not None:
            shortcut = graph.convolution(source, f"{name}.downsample.0", outputs, kernel=1, stride=stride)
        return graph.convolution(hidden, f"{name}.conv2", outputs, norm=f"{name}.bn2", beside=shortcut)


class PreResNet(nn.Module):
    """PreResNet of depth 6n + 2; parameter names are those of the authors' checkpoints.

    Parameters
    ----------
    blocks
        Blocks per stage, n.
    widths
        Channels of the three stages.
    classes
        Number of logits.
    channels
        Colour channels of the images.
    """

    initialisation: ClassVar = Initialisation(convolution="out", linear="uniform")

    def __init__(self, blocks: int, widths: tuple[int, int, int], classes: int, channels: int) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1 = Convolution3x3(channels, first)
        self.layer1 = _stage(first, first, blocks, stride=1)
        self.layer2 = _stage(first, second, blocks, stride=2)
        self.layer3 = _stage(second, third, blocks, stride=2)
        self.bn = NormRelu(third)
        self.fc = nn.Linear(third, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, channels, side, side), side divisible by 4 → logits (N, classes)."""
        hidden = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        # For 32×32 images the spatial mean equals the authors' 8×8 average pool.
        return self.fc(self.bn(hidden).mean((2, 3)))

    def lowered(self, graph: Graph) -> None:
        """See `three_regime.kernels.graph.Lowerable`."""
        hidden = graph.convolution(graph.image, "conv1", self.conv1.out_channels)
        for name in ("layer1", "layer2", "layer3"):
            for index, block in enumerate(getattr(self, name)):
                hidden = block.lowered(graph, hidden, f"{name}.{index}")
        graph.head(hidden, "bn", "fc", self.fc.out_features)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    widths = [inputs, *[outputs] * blocks]
    return nn.Sequential(*(Block(a, b, stride if i == 0 else 1) for i, (a, b) in enumerate(pairwise(widths))))


def build(depth: int, width: float, classes: int, channels: int) -> PreResNet:
    """PreResNet-`depth` with `width` times 16/32/64 channels (16 · `width` is an integer)."""
    base = round(16 * width)
    return PreResNet((depth - 2) // 6, (base, 2 * base, 4 * base), classes, channels)
