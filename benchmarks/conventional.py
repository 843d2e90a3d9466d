"""Conventional baseline: PIL transforms in DataLoader workers, contiguous tensors, eager modules, single networks."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.setting import BATCH, Setting, outputs, streams
from benchmarks.timing import clock
from three_regime.config import Training
from three_regime.datasets.torchvision_import import import_torchvision
from three_regime.landscape import mode_connectivity
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.system.device import convolution_precision

PREFETCH = 2  # batches per worker, torch's default

Loop = TypeVar("Loop", bound="TrainingLoop | Line")
_loops: dict[Any, Any] = {}

warnings.filterwarnings("ignore", message="This DataLoader will create")  # 4 workers on 2 cores are intended


class Pictures(Dataset):
    """Dataset over arrays in the style of torchvision: convert to a PIL image, then apply a transform."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: nn.Module) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].squeeze())), int(self.labels[index])


def pictures(setting: Setting, split: str, *, augmented: bool) -> Pictures:
    """Return a split with standard transforms: crop and flip if `augmented`, then ToTensor and Normalize."""
    transforms = import_torchvision().transforms
    entry = setting.entry
    steps = [transforms.RandomCrop(entry.image_size, entry.padding)] if augmented else []
    steps += [transforms.RandomHorizontalFlip()] if augmented and entry.flip else []
    steps += [transforms.ToTensor(), transforms.Normalize(entry.mean, entry.std)]
    arrays = setting.arrays()
    return Pictures(arrays[f"{split}_images"], arrays[f"{split}_labels"], transforms.Compose(steps))


def loader(data: Pictures, setting: Setting, workers: int, *, shuffle: bool) -> DataLoader:
    """Return a DataLoader with persistent workers."""
    return DataLoader(
        data,
        batch_size=BATCH,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=PREFETCH,
        pin_memory=setting.device != "cpu",
        multiprocessing_context="fork",  # the default on Linux; this process itself was spawned
    )


def network(setting: Setting, seed: int) -> nn.Module:
    """Return a module with the pipeline's initial weights."""
    entry = setting.entry
    module = families.build(
        setting.model, classes=entry.classes, channels=entry.channels, image_size=entry.image_size
    )  # fmt: skip
    weights = initial_weights(module, streams(seed).generator("initialisation"))
    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return module.to(setting.device)


def optimiser(module: nn.Module) -> torch.optim.SGD:
    """Return `torch.optim.SGD` with the protocol's hyperparameters."""
    protocol = Training(epochs=1)
    return torch.optim.SGD(
        module.parameters(),
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
    )


def step(module: nn.Module, sgd: torch.optim.SGD, images: Tensor, labels: Tensor) -> float:
    """Take one training step and read the loss, as conventional loops do."""
    loss = F.cross_entropy(module(images), labels)
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    return loss.item()


def synchronise(device: str) -> None:
    """Synchronise with the device before reading the clock."""
    if device != "cpu":
        torch.cuda.synchronize()


class TrainingLoop:
    """Training loop that continues from one measurement to the next, with persistent workers."""

    def __init__(self, setting: Setting, workers: int) -> None:
        torch.set_num_threads(setting.threads)
        self.setting, self.workers = setting, workers
        self.module = network(setting, 1).train()
        self.sgd = optimiser(self.module)
        data = pictures(setting, "train", augmented=True)
        self._batches = _endless(loader(data, setting, workers, shuffle=True))

    def _steps(self, count: int) -> None:
        for _ in range(count):
            images, labels = (tensor.to(self.setting.device, non_blocking=True) for tensor in next(self._batches))
            step(self.module, self.sgd, images, labels)
        synchronise(self.setting.device)

    def step_s(self, steps: int, now: Callable[[], float] = time.perf_counter) -> float:
        """Return seconds per step by the clock `now`, after using up the batches prefetched during the pause."""
        self._steps(PREFETCH * self.workers + 3)
        began = now()
        self._steps(steps)
        return (now() - began) / steps


def _endless(batches: DataLoader) -> Iterator[list[Tensor]]:
    while True:
        yield from batches


def training_step_s(setting: Setting, workers: int, steps: int) -> float:
    """Return seconds per training step (see `TrainingLoop.step_s`)."""
    return _running(TrainingLoop, setting, workers).step_s(steps)


def loop_step_s(setting: Setting, workers: int, steps: int) -> float:
    """Return seconds per step by `timing.clock`; with one thread this excludes the workers, so batches are free."""
    return _running(TrainingLoop, setting, workers).step_s(steps, clock(setting.threads))


class Line:
    """Evaluation along the line between two networks, with persistent workers."""

    def __init__(self, setting: Setting, workers: int) -> None:
        torch.set_num_threads(setting.threads)
        self.setting = setting
        self.ends = [network(setting, seed).state_dict() for seed in (1, 2)]
        self.module = network(setting, 1)
        self.norms = [module for module in self.module.modules() if isinstance(module, nn.BatchNorm2d)]
        self.loaders = {
            split: loader(pictures(setting, split, augmented=False), setting, workers, shuffle=False)
            for split in ("train", "test")
        }

    def _batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.loaders[split]:
            yield images.to(self.setting.device, non_blocking=True), labels.to(self.setting.device, non_blocking=True)

    def _move_to(self, t: float) -> None:
        first, second = self.ends
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(first[name].lerp(second[name], t))

    @torch.no_grad()
    def _reestimate(self) -> None:
        for norm in self.norms:
            norm.reset_running_stats()
        self.module.train()
        seen = 0
        for images, labels in self._batches("train"):
            seen += len(labels)
            for norm in self.norms:
                norm.momentum = len(labels) / seen
            self.module(images)

    @torch.no_grad()
    def _error(self, split: str) -> float:
        self.module.eval()
        wrong = total = 0
        for images, labels in self._batches(split):
            wrong += (self.module(images).argmax(1) != labels).sum().item()
            total += len(labels)
        return wrong / total

    def measure(self, points: int) -> tuple[float, list[float]]:
        """Return the seconds for the whole line and the training errors along it."""
        errors = []
        began = time.perf_counter()
        with convolution_precision(tf32=False):
            for t in mode_connectivity.positions(points):
                self._move_to(t)
                self._reestimate()
                errors.append(self._error("train"))
                self._error("test")
        synchronise(self.setting.device)
        return time.perf_counter() - began, errors


def lmc_s(setting: Setting, workers: int, points: int) -> tuple[float, list[float]]:
    """Return the seconds for one line and the training errors along it (see `Line.measure`)."""
    return _running(Line, setting, workers).measure(points)


def _running(kind: type[Loop], setting: Setting, workers: int) -> Loop:
    """Return the running loop for this setting; stop any other loop and its workers first."""
    key = (kind, setting, workers)
    if key not in _loops:
        release()
        _loops[key] = kind(setting, workers)
    return _loops[key]


def release() -> None:
    """Stop the running loop and its workers."""
    _loops.clear()
    gc.collect()


def gram_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear CKA by centred n × n Gram matrices, the textbook form."""
    x, y = (_centred(outputs @ outputs.T) for outputs in (first, second))
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def _centred(gram: np.ndarray) -> np.ndarray:
    means = gram.mean(axis=0)
    return gram - means[:, None] - means[None, :] + means.mean()


def cka_s(images: int, features: int) -> float:
    """Return the seconds for one CKA by Gram matrices."""
    pair = outputs(images, features)
    began = time.perf_counter()
    gram_cka(*pair)
    return time.perf_counter() - began
