"""Images as uint8 on the device, and batches of them: augmented for training, in file order for measuring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from three_regime.config import Training
from three_regime.datasets.registry import ImageDataset
from three_regime.random_streams import Streams
from three_regime.tasks.interface import Split


class Augmenter:
    """Zero padding, random crop and flip of raw pixels, then normalisation (order of the authors' code).

    Parameters
    ----------
    entry
        Data set with padding, flip, mean and std.
    """

    def __init__(self, entry: ImageDataset, device: torch.device) -> None:
        self.padding = entry.padding
        self.flip = entry.flip
        self.mean = torch.tensor(entry.mean, device=device)
        self.std = torch.tensor(entry.std, device=device)
        self.grid = torch.arange(entry.image_size, device=device)

    def normalise(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8 → (N, C, H, W) float32 in channels-last memory, normalised as by torchvision."""
        return images.float().div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)

    def crop(self, images: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """Crop and flip zero-padded `images` (N, H, W, C), uint8.

        Parameters
        ----------
        shifts
            (N, 2) int64 in 0 … 2 · padding: top row and left column of the crop in the padded image.
        flips
            (N,) bool: flip horizontally after cropping.
        """
        margin = self.padding
        padded = F.pad(images, (0, 0, margin, margin, margin, margin))
        rows = shifts[:, :1] + self.grid
        columns = shifts[:, 1:] + torch.where(flips[:, None], self.grid.flip(0), self.grid)
        member = torch.arange(len(images), device=images.device)[:, None, None]
        return padded[member, rows[:, :, None], columns[:, None, :]]


class Images:
    """Images and labels of both splits.

    Parameters
    ----------
    arrays
        ``{train,test}_images`` (N, H, W, C) uint8 and ``{train,test}_labels`` (N,) int64.
    train_images, test_images
        Number of images of a split to use, the first ones; None: all.
    """

    def __init__(
        self,
        entry: ImageDataset,
        arrays: Mapping[str, np.ndarray],
        device: torch.device,
        train_images: int | None = None,
        test_images: int | None = None,
    ) -> None:
        self.device = device
        self.entry = entry
        self.augmenter = Augmenter(entry, device)
        limits = {"train": train_images, "test": test_images}
        self.images = {s: torch.from_numpy(arrays[f"{s}_images"][:n]).to(device) for s, n in limits.items()}
        self.labels = {s: torch.from_numpy(arrays[f"{s}_labels"][:n]).to(device) for s, n in limits.items()}

    def epoch(self, streams: Streams, epoch: int, training: Training) -> ImageEpoch:
        """Batches of one epoch of one member."""
        return ImageEpoch(self, streams, epoch, training)

    def in_file_order(self, split: Split, size: int, images: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of `size` un-augmented images and labels, over the first `images` of a split (None: all)."""
        for pixels, labels in zip(
            self.images[split][:images].split(size), self.labels[split][:images].split(size), strict=True
        ):
            yield self.augmenter.normalise(pixels), labels


class ImageEpoch:
    """One epoch of one member: the order of images, and a shift and flip for each."""

    def __init__(self, images: Images, streams: Streams, epoch: int, training: Training) -> None:
        total, size = len(images.labels["train"]), training.batch_size
        self.steps = total // size if training.drop_last else -(-total // size)
        self._images, self._size = images, size
        order = streams.generator("order", epoch).permutation(total)
        augmentation = streams.generator("augmentation", epoch)
        margin = images.augmenter.padding
        shifts = augmentation.integers(0, 2 * margin + 1, size=(total, 2))
        flips = augmentation.random(total) < (0.5 if images.augmenter.flip else 0.0)
        self.order, self.shifts, self.flips = (
            torch.from_numpy(array).to(images.device) for array in (order, shifts, flips)
        )

    def choices(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of a step's images, (n,), and their shifts (n, 2) and flips (n,)."""
        here = slice(step * self._size, (step + 1) * self._size)
        return self.order[here], self.shifts[here], self.flips[here]

    def micro_batches(self, step: int) -> tuple[tuple[Tensor, Tensor]]:
        """Augmented images (n, C, H, W) and labels (n,) of one step; a single batch, because of BatchNorm."""
        chosen, shifts, flips = self.choices(step)
        augmenter = self._images.augmenter
        images = augmenter.crop(self._images.images["train"][chosen], shifts, flips)
        return ((augmenter.normalise(images), self._images.labels["train"][chosen]),)
