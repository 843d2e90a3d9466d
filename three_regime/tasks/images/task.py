"""Image classification (paper, section 3.1): CIFAR-like images held as uint8 on the device, no loader workers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from three_regime import kernels as compiled
from three_regime.config import Training
from three_regime.datasets.registry import DATASETS, ImageDataset
from three_regime.errors import UserError
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.models.layers import use_kernels
from three_regime.models.matching import match
from three_regime.models.sizes import size
from three_regime.pruning.masks import Masks
from three_regime.random_streams import Streams
from three_regime.settings import Opened
from three_regime.study.grid import Study
from three_regime.system.cpu_memory import keep_freed_memory
from three_regime.system.files import Arrays, read_arrays, tensor_digest
from three_regime.tasks.images.batchnorm_reestimation import averaging
from three_regime.tasks.images.sparse import SparseImages
from three_regime.tasks.images.stacked import EVALUATION_BATCH, ImageStack
from three_regime.tasks.interface import Metrics, Split, Weights
from three_regime.tasks.pack_sizes import Lockstep, pays_on_cpu

log = logging.getLogger(__name__)


class Augmenter:
    """Zero padding, random crop and flip of raw pixels, then normalisation: the protocol's order (A).

    Parameters
    ----------
    entry
        Padding, flip, mean and std.
    """

    def __init__(self, entry: ImageDataset, device: torch.device) -> None:
        self.padding = entry.padding
        self.flip = entry.flip
        self.mean = torch.tensor(entry.mean, device=device)
        self.std = torch.tensor(entry.std, device=device)
        self.grid = torch.arange(entry.image_size, device=device)

    def normalise(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8 → (N, C, H, W) float32 in channels-last memory, normalised as torchvision does."""
        return images.float().div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)

    def crop(self, images: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """Shifted and flipped crops of zero-padded `images` (N, H, W, C), still uint8.

        Parameters
        ----------
        shifts
            (N, 2) int64 in 0 … 2 · padding: row and column of the crop in the padded image.
        flips
            (N,) bool: mirror left-right after cropping.
        """
        margin = self.padding
        padded = F.pad(images, (0, 0, margin, margin, margin, margin))
        rows = shifts[:, :1] + self.grid
        columns = shifts[:, 1:] + torch.where(flips[:, None], self.grid.flip(0), self.grid)
        member = torch.arange(len(images), device=images.device)[:, None, None]
        return padded[member, rows[:, :, None], columns[:, None, :]]


class ImageEpoch:
    """One epoch of one member: an order, and a shift and flip for every position in it."""

    def __init__(self, task: ImageClassification, streams: Streams, epoch: int, training: Training) -> None:
        total, size = len(task.labels["train"]), training.batch_size
        self.steps = total // size if training.drop_last else -(-total // size)
        self._task, self._size = task, size
        order = streams.generator("order", epoch).permutation(total)
        augmentation = streams.generator("augmentation", epoch)
        margin = task.augmenter.padding
        shifts = augmentation.integers(0, 2 * margin + 1, size=(total, 2))
        flips = augmentation.random(total) < (0.5 if task.augmenter.flip else 0.0)
        self.order, self.shifts, self.flips = (
            torch.from_numpy(array).to(task.device) for array in (order, shifts, flips)
        )

    def choices(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which images make up a step, (n,), and their shifts (n, 2) and flips (n,)."""
        here = slice(step * self._size, (step + 1) * self._size)
        return self.order[here], self.shifts[here], self.flips[here]

    def micro_batches(self, step: int) -> tuple[tuple[Tensor, Tensor]]:
        """Augmented images (n, C, H, W) and labels (n,) of one step: never divided, for BatchNorm's statistics."""
        chosen, shifts, flips = self.choices(step)
        augmenter = self._task.augmenter
        images = augmenter.crop(self._task.images["train"][chosen], shifts, flips)
        return ((augmenter.normalise(images), self._task.labels["train"][chosen]),)


class ImageClassification:
    """The image task; see `three_regime.tasks.interface.Task`.

    Parameters
    ----------
    arrays
        ``{train,test}_images`` (N, H, W, C) uint8 and ``{train,test}_labels`` (N,) int64.
    model
        A model name.
    train_images, test_images
        Use the first so many images of a split; None uses all.
    """

    unit = "images"

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
        self.device = device
        self.model_name = model
        self.entry = entry
        self.augmenter = Augmenter(entry, device)
        limits = {"train": train_images, "test": test_images}
        self.images = {s: torch.from_numpy(arrays[f"{s}_images"][:n]).to(device) for s, n in limits.items()}
        self.labels = {s: torch.from_numpy(arrays[f"{s}_labels"][:n]).to(device) for s, n in limits.items()}
        self.model = self._build()
        use_kernels(self.model, compiled.available(device))
        self.parameters = {name: tuple(value.shape) for name, value in self.model.named_parameters()}
        self.buffers = {name: tuple(value.shape) for name, value in self.model.named_buffers()}
        self._own = {name: value.detach() for name, value in self.model.state_dict().items()}
        self.prunable = families.prunable(self.model)
        self._norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]

    def _build(self) -> nn.Module:
        entry = self.entry
        return families.build(
            self.model_name, classes=entry.classes, channels=entry.channels, image_size=entry.image_size
        ).to(self.device)  # fmt: skip

    def stack(self, choice: Lockstep) -> ImageStack | None:
        """Several networks advanced together, where `choice` and the architecture allow it (`pays_on_cpu`)."""
        if choice == "off" or (self.device.type == "cpu" and not pays_on_cpu(choice, self._multiply_adds)):
            return None
        found = ImageStack(self, self._build(), None if choice == "auto" else choice)
        if found.reproduces(self.model):
            return found
        log.warning("%s cannot be computed side by side: its networks advance one after another", self.model_name)
        return None

    def sparse(self, masks: Masks) -> SparseImages | None:
        """The network with these masks, where the compiled engine can run it and is faster."""
        library = compiled.available(self.device)
        if library is None or not masks:
            return None
        return SparseImages.of(self, library, masks)

    @property
    def _multiply_adds(self) -> int | None:
        entry = self.entry
        counted = size(self.model_name, classes=entry.classes, channels=entry.channels, image_size=entry.image_size)
        return counted and counted.multiply_adds

    def initial_weights(self, streams: Streams) -> Arrays:
        return initial_weights(self.model, streams.generator("initialisation"))

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
        arrays = match(arrays, self.model, source)
        return {name: torch.from_numpy(np.array(array)).to(self.device) for name, array in arrays.items()}

    def epoch(self, streams: Streams, epoch: int, training: Training) -> ImageEpoch:
        return ImageEpoch(self, streams, epoch, training)

    def loss(self, parameters: Weights, buffers: Weights, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, int]:
        images, labels = batch
        self.model.train()
        logits = functional_call(self.model, {**parameters, **buffers}, (images,), tie_weights=False)
        errors = (logits.detach().argmax(1) != labels).sum()
        return F.cross_entropy(logits, labels), errors, len(labels)

    def targets(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[1])

    def halves(self, batch: tuple[Tensor, Tensor]) -> None:
        """Never: BatchNorm computes its statistics over the whole batch."""

    @torch.no_grad()
    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        errors = torch.zeros((), dtype=torch.int64, device=self.device)
        nll = torch.zeros((), dtype=torch.float64, device=self.device)
        total = 0
        self._become(weights).eval()
        for batch, labels in self.in_file_order(split, EVALUATION_BATCH, images):
            logits = self.model(batch)
            errors += (logits.argmax(1) != labels).sum()
            nll += F.cross_entropy(logits, labels, reduction="sum").double()
            total += len(labels)
        return Metrics(errors.item() / total, nll.item() / total)

    @torch.no_grad()
    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """BatchNorm statistics of `weights` over the un-augmented training images in file order (A)."""
        self._become(weights).train()
        for name in self.buffers:
            self._own[name].zero_()
        with averaging(self._norms, self.in_file_order("train", batch_size, images)) as batches:
            for batch, _ in batches:
                self.model(batch)
        return {**weights, **{name: self._own[name].clone() for name in self.buffers}}

    @property
    def comparable(self) -> int:
        return len(self.labels["train"])

    @torch.no_grad()
    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield logits, then softmax outputs, (images, classes) float64, on the first training images in file order."""
        if images > self.comparable:
            raise UserError(f"{images} images were asked for, but there are {self.comparable}")
        model = self._become(weights).eval()
        batches = self.in_file_order("train", EVALUATION_BATCH, images)
        logits = torch.cat([model(batch) for batch, _ in batches]).double()
        yield "logits", logits.cpu().numpy()
        yield "softmax", logits.softmax(1).cpu().numpy()

    def evaluation_losses(self, parameters: Weights, buffers: Weights, images: int) -> Iterator[tuple[Tensor, int]]:
        self.model.eval()  # where the compiled kernels compute no gradients, so torch does
        for batch, labels in self.in_file_order("train", EVALUATION_BATCH, images):
            logits = functional_call(self.model, {**parameters, **buffers}, (batch,), tie_weights=False)
            yield F.cross_entropy(logits, labels, reduction="sum"), len(labels)

    def scores(self, weights: Weights, splits: Sequence[str] = ()) -> dict[str, Any]:
        """Nothing beside errors and NLL."""
        return {}

    def _become(self, weights: Weights) -> nn.Module:
        """The network with copies of `weights`: over many batches cheaper than a functional call for each."""
        for name, own in self._own.items():
            own.copy_(weights[name])
        return self.model

    def in_file_order(self, split: Split, size: int, images: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of at most `size` un-augmented images and their labels, the first `images` of a split (None: all)."""
        for pixels, labels in zip(
            self.images[split][:images].split(size), self.labels[split][:images].split(size), strict=True
        ):
            yield self.augmenter.normalise(pixels), labels


def from_prepared(
    path: Path, entry: ImageDataset, model: str, device: torch.device, train_images: int | None, test_images: int | None
) -> ImageClassification:
    """The task on a prepared array file."""
    arrays = read_arrays(path)
    return ImageClassification(entry, arrays, model, device, train_images=train_images, test_images=test_images)


def of_study(study: Study, device: str) -> ImageClassification:
    """The task of a study, on its prepared array file."""
    choice = study.config.dataset
    return from_prepared(
        study.prepared, choice.entry, study.config.model, torch.device(device), choice.train_images, choice.test_images
    )


def opened(dataset: str, folder: Path) -> Opened:
    """The raw images of a data set, to measure single checkpoints on."""
    entry = DATASETS[dataset]
    arrays = entry.read(folder)

    def task(model: str, device: str, train: int | None, test: int | None) -> ImageClassification:
        return ImageClassification(entry, arrays, model, torch.device(device), train_images=train, test_images=test)

    counts = {split: len(arrays[f"{split}_labels"]) for split in ("train", "test")}
    return Opened(counts, lambda: tensor_digest(arrays), task)
