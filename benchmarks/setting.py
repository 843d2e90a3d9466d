"""Settings shared by both sides of a comparison: data, model, initial weights, device and threads. No torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from three_regime.datasets.registry import DATASETS, ImageDataset
from three_regime.random_streams import Streams
from three_regime.system.files import Arrays, read_arrays, write_arrays

CHECKOUT = Path(__file__).resolve().parents[1]
PREPARED = CHECKOUT / "data" / "cifar10.safetensors"
MOSAICS = CHECKOUT.parent / "shared" / "data" / "cifar10"

BATCH = 64


@dataclass(frozen=True)
class Setting:
    """One network on one data set.

    Attributes
    ----------
    file
        Prepared array file.
    threads
        CPU threads of the main process of either side.
    """

    file: Path
    dataset: str
    model: str
    device: str
    threads: int
    train_images: int
    test_images: int

    @property
    def entry(self) -> ImageDataset:
        return DATASETS[self.dataset]

    def arrays(self) -> Arrays:
        """The first images of each split."""
        limits = {"train": self.train_images, "test": self.test_images}
        return {name: array[: limits[name.split("_")[0]]] for name, array in read_arrays(self.file).items()}


def streams(seed: int) -> Streams:
    """Return the random streams of a benchmark network."""
    return Streams(("benchmark", seed))


def cifar10_file(folder: Path) -> tuple[Path, str]:
    """Return an array file of CIFAR-10-shaped images and a description of its content.

    Uses prepared CIFAR-10 if present, else CIFAR-10 rebuilt into `folder`, else random pixels and labels.
    """
    if PREPARED.is_file():
        return PREPARED, "CIFAR-10, as prepared"
    path = folder / "cifar10.safetensors"
    if rebuild_cifar10(folder):
        write_arrays(path, DATASETS["cifar10"].read(folder), {})
        return path, "CIFAR-10, rebuilt from ../shared"
    write_arrays(path, random_images(DATASETS["cifar10"], 8192, 2048), {})
    return path, "random pixels and labels in the shape of CIFAR-10"


def rebuild_cifar10(folder: Path) -> bool:
    """Rebuild ``cifar-10-batches-py`` in `folder` from the mosaics beside the checkout; False if there are none."""
    if not (MOSAICS / "rebuild.py").is_file():
        return False
    command = [sys.executable, "rebuild.py", "webp", str(folder / "cifar-10-batches-py")]
    subprocess.run(command, cwd=MOSAICS, check=True, capture_output=True)
    return True


def random_images(entry: ImageDataset, train: int, test: int) -> Arrays:
    """Return random arrays in the shape of a data set, from a fixed seed."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        shape = (count, entry.image_size, entry.image_size, entry.channels)
        arrays[f"{split}_images"] = generator.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = generator.integers(0, entry.classes, count)
    return arrays


def outputs(images: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two correlated (images, features) arrays of outputs for CKA."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((images, features))
    return first, first + generator.standard_normal((images, features))
