"""An architecture and the images it is computed on: what every way of computing its networks shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from three_regime import kernels as compiled
from three_regime.datasets.registry import ImageDataset
from three_regime.models import families
from three_regime.models.layers import use_kernels
from three_regime.system.cpu_memory import keep_freed_memory
from three_regime.tasks.images.batches import Images


class ImageNetwork(Images):
    """A module of the architecture, on the device, beside its images.

    Parameters
    ----------
    arrays, train_images, test_images
        See `Images`.
    model
        A model name.
    """

    def __init__(
        self,
        entry: ImageDataset,
        arrays: Mapping[str, np.ndarray],
        model: str,
        device: torch.device,
        *,
        train_images: int | None = None,
        test_images: int | None = None,
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        super().__init__(entry, arrays, device, train_images, test_images)
        self.model_name = model
        self.model = self.build()
        use_kernels(self.model, compiled.available(device))
        self.parameters = {name: tuple(value.shape) for name, value in self.model.named_parameters()}
        self.buffers = {name: tuple(value.shape) for name, value in self.model.named_buffers()}
        self.prunable = families.prunable(self.model)

    def build(self) -> nn.Module:
        """Another module of the architecture."""
        entry = self.entry
        return families.build(
            self.model_name, classes=entry.classes, channels=entry.channels, image_size=entry.image_size
        ).to(self.device)  # fmt: skip
