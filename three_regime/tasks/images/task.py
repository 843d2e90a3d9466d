"""Image classification (paper, section 3.1), with images stored as uint8 on the device and no loader workers."""

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
from three_regime.datasets.registry import DATASETS, ImageDataset
from three_regime.errors import UserError
from three_regime.models.initialisation import initial_weights
from three_regime.models.matching import match
from three_regime.models.sizes import size
from three_regime.pruning.masks import Masks
from three_regime.random_streams import Streams
from three_regime.settings import Opened
from three_regime.study.grid import Study
from three_regime.system.files import Arrays, read_arrays, tensor_digest
from three_regime.tasks.images.batchnorm_reestimation import averaging
from three_regime.tasks.images.label_noise import noisy
from three_regime.tasks.images.network import ImageNetwork
from three_regime.tasks.images.sparse import SparseImages
from three_regime.tasks.images.stacked import EVALUATION_BATCH, ImageStack
from three_regime.tasks.interface import Metrics, Split, Weights
from three_regime.tasks.pack_sizes import Lockstep, pays_on_cpu

log = logging.getLogger(__name__)


class ImageClassification(ImageNetwork):
    """The image task; see `three_regime.tasks.interface.Task` and, for its parameters, `ImageNetwork`."""

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
        super().__init__(entry, arrays, model, device, train_images=train_images, test_images=test_images)
        self._own = {name: value.detach() for name, value in self.model.state_dict().items()}
        self._norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]

    def stack(self, choice: Lockstep) -> ImageStack | None:
        """Stack to compute several networks together, if `choice` and the architecture allow it (`pays_on_cpu`)."""
        if choice == "off" or (self.device.type == "cpu" and not pays_on_cpu(choice, self._multiply_adds)):
            return None
        found = ImageStack(self, self.build(), None if choice == "auto" else choice)
        if found.reproduces(self.model):
            return found
        log.warning("%s does not support joint computation: its networks advance one after another", self.model_name)
        return None

    def sparse(self, masks: Masks, only: compiled.Kernels | None = None) -> SparseImages | None:
        """The network with these masks, if the compiled engine supports it and is faster; see `Sparsifiable`."""
        library = compiled.available(self.device)
        if library is None:
            return None
        return SparseImages.of(self, library, masks, only)

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

    def loss(self, parameters: Weights, buffers: Weights, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, int]:
        images, labels = batch
        self.model.train()
        logits = functional_call(self.model, {**parameters, **buffers}, (images,), tie_weights=False)
        errors = (logits.detach().argmax(1) != labels).sum()
        return F.cross_entropy(logits, labels), errors, len(labels)

    def targets(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[1])

    def halves(self, batch: tuple[Tensor, Tensor]) -> None:
        """None: BatchNorm computes its statistics over the whole batch."""

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
        """Re-estimate BatchNorm statistics on the un-augmented training images in file order (authors' code)."""
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
            raise UserError(f"{images} images were requested, but there are {self.comparable}")
        model = self._become(weights).eval()
        batches = self.in_file_order("train", EVALUATION_BATCH, images)
        logits = torch.cat([model(batch) for batch, _ in batches]).double()
        yield "logits", logits.cpu().numpy()
        yield "softmax", logits.softmax(1).cpu().numpy()

    def evaluation_losses(self, parameters: Weights, buffers: Weights, images: int) -> Iterator[tuple[Tensor, int]]:
        self.model.eval()  # the compiled kernels compute no gradients in evaluation mode, so torch does
        for batch, labels in self.in_file_order("train", EVALUATION_BATCH, images):
            logits = functional_call(self.model, {**parameters, **buffers}, (batch,), tie_weights=False)
            yield F.cross_entropy(logits, labels, reduction="sum"), len(labels)

    def scores(self, weights: Weights, splits: Sequence[str] = ()) -> dict[str, Any]:
        """Empty: images have only errors and NLL."""
        return {}

    def _become(self, weights: Weights) -> nn.Module:
        """Copy `weights` into the module; over many batches this is cheaper than `functional_call`."""
        for name, own in self._own.items():
            own.copy_(weights[name])
        return self.model


def of_study(study: Study, device: str) -> ImageClassification:
    """The task of a study, on its prepared array file."""
    choice = study.config.dataset
    arrays = choice.entry.checked(read_arrays(study.prepared))  # earlier versions prepared what a reader returned
    if choice.label_noise:
        labels = arrays["train_labels"][: choice.train_images]
        arrays["train_labels"] = noisy(labels, choice.label_noise, choice.entry.classes)
    return ImageClassification(
        choice.entry, arrays, study.config.model, torch.device(device),
        train_images=choice.train_images, test_images=choice.test_images,
    )  # fmt: skip


def opened(dataset: str, folder: Path) -> Opened:
    """Open the raw images of a data set, to measure single checkpoints."""
    entry = DATASETS[dataset]
    arrays = entry.read(folder)

    def task(model: str, device: str, train: int | None, test: int | None) -> ImageClassification:
        return ImageClassification(entry, arrays, model, torch.device(device), train_images=train, test_images=test)

    counts = {split: len(arrays[f"{split}_labels"]) for split in ("train", "test")}
    return Opened(counts, lambda: tensor_digest(arrays), task)
