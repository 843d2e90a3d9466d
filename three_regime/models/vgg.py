"""VGG with BatchNorm for 32×32 images (Simonyan & Zisserman 2015, as in the authors' code).

Five groups of 3×3 convolutions as in the original; a 2×2 max-pool after each of the first four, a 2×2 average pool
after the last, then one linear classifier. Convolutions have biases.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from three_regime.kernels.graph import Graph
from three_regime.models.counting import VGG_CONVOLUTIONS, VGG_WIDTHS
from three_regime.models.initialisation import Initialisation
from three_regime.models.layers import NormRelu


class VGG(nn.Module):
    """VGG-BN; parameter names are those of the authors' checkpoints.

    Parameters
    ----------
    groups
        Number of convolutions in each of the five groups, of 64, 128, 256, 512 and 512 channels.
    classes
        Number of logits.
    channels
        Colour channels of the images.
    """

    initialisation: ClassVar = Initialisation(convolution="in", linear="small")

    def __init__(self, groups: tuple[int, ...], classes: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for group, (count, width) in enumerate(zip(groups, VGG_WIDTHS, strict=True)):
            if group:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                # The identity takes the place of the authors' ReLU, because parameter names count layers.
                layers += [nn.Conv2d(inputs, width, 3, padding=1), NormRelu(width), nn.Identity()]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, channels, 32, 32) → logits (N, classes)."""
        return self.classifier(F.avg_pool2d(self.features(images), 2).flatten(1))

    def lowered(self, graph: Graph) -> None:
        """See `three_regime.kernels.graph.Lowerable`. The average pool's output has side 1, so it is a spatial mean."""
        hidden, norm = graph.image, None
        for index, module in enumerate(self.features):
            if isinstance(module, nn.MaxPool2d):
                hidden, norm = graph.pool(hidden, norm, "maximum"), None
            elif isinstance(module, nn.Conv2d):
                hidden = graph.convolution(
                    hidden, f"features.{index}", module.out_channels, norm=norm, bias=True
                )  # fmt: skip
            elif isinstance(module, NormRelu):
                norm = f"features.{index}"
        graph.head(hidden, norm, "classifier", self.classifier.out_features)


def build(depth: int, width: float, classes: int, channels: int) -> VGG:
    """VGG-`depth`-BN; `width` must be 1.

    Raises
    ------
    ValueError
        When `width` is not 1.
    """
    if width != 1:
        raise ValueError(f"VGG has no width factor, got {width}")
    return VGG(VGG_CONVOLUTIONS[depth], classes, channels)
