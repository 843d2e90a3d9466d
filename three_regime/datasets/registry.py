"""Registry of data sets, looked up by name from configuration and command line.

A new image data set is an `ImageDataset` below with a function that reads its raw files; a new parallel corpus is a
`ParallelCorpus` in ``corpora.py``. If a later edit changes the data, increase the entry's `version`: the data are
prepared again, and results are recomputed if they differ. A change of normalisation or augmentation needs no new
version. The `kind` of an entry selects its setting (`three_regime.settings.SETTINGS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from three_regime.datasets.corpora import CORPORA, ParallelCorpus
from three_regime.datasets.image_arrays import checked
from three_regime.system import registries


@dataclass(frozen=True)
class ImageDataset:
    """Properties of an image data set, and its reader.

    Attributes
    ----------
    classes, channels, image_size
        Number of classes, colour channels, and side in pixels.
    train_images, test_images
        Number of images in each split.
    mean, std
        Per-channel normalisation, on pixels scaled to [0, 1].
    padding, flip
        Augmentation: zero padding in pixels before the random crop, and whether to flip horizontally.
    reader
        ``module:function`` of a function (raw folder) → arrays ``train_images`` (N, H, W, C) uint8,
        ``train_labels`` (N,) int64 and the same for ``test``; imported only when the data set is prepared.
    sources
        Names in ``sources.yaml`` of the downloads; empty if the data come with a package.
    largest_class
        Fraction of the most frequent class among test images if classes are unbalanced; 0 if balanced.
    version
        Increased by hand when the reader or its files change the arrays, so the data set is prepared again.
    """

    kind: ClassVar[str] = "images"

    name: str
    classes: int
    channels: int
    image_size: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    flip: bool
    reader: str
    sources: tuple[str, ...]
    note: str
    largest_class: float = 0.0
    version: int = 1

    @property
    def chance_error(self) -> float:
        """Test error of always predicting the most frequent class."""
        return 1 - max(1 / self.classes, self.largest_class)

    @property
    def treatment(self) -> dict[str, Any]:
        """Normalisation and augmentation; part of every fingerprint unless ``IMPLIED``."""
        return {"mean": list(self.mean), "std": list(self.std), "padding": self.padding, "flip": self.flip}

    def read(self, raw: Path) -> dict[str, np.ndarray]:
        """Read the raw files below `raw` into arrays (see `reader`); see `checked` for errors."""
        read: Callable[[Path], dict[str, np.ndarray]] = registries.function(self.reader, f"data set {self.name}")
        return self.checked(read(raw))

    def checked(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays of the reader, if they are as `reader` says (`image_arrays.checked`)."""
        reader = f"the reader of data set {self.name} ({self.reader})"
        return checked(arrays, reader, (self.image_size, self.image_size, self.channels), self.classes)


DATASETS: dict[str, ImageDataset | ParallelCorpus] = {
    entry.name: entry
    for entry in (
        ImageDataset(
            "digits", 10, 1, 8, 1437, 360, (0.2874,), (0.3534,), 1, False,
            "three_regime.datasets.digits:read", (),
            "8x8 handwritten digits bundled with scikit-learn; the offline default of the demo",
        ),
        ImageDataset(
            "cifar10", 10, 3, 32, 50_000, 10_000, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 4, True,
            "three_regime.datasets.torchvision_images:read_cifar10", ("cifar10",),
            "CIFAR-10 (Krizhevsky 2009); normalisation and augmentation of the authors' code",
        ),
        ImageDataset(
            "cifar100", 100, 3, 32, 50_000, 10_000, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 4, True,
            "three_regime.datasets.torchvision_images:read_cifar100", ("cifar100",),
            "CIFAR-100 (Krizhevsky 2009), fine labels; normalisation and augmentation as for CIFAR-10",
        ),
        ImageDataset(
            "svhn", 10, 3, 32, 73_257, 26_032, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), 4, True,
            "three_regime.datasets.torchvision_images:read_svhn", ("svhn_train", "svhn_test"),
            "SVHN cropped digits (Netzer et al. 2011); normalisation of the authors' code, augmentation of CIFAR-10",
            largest_class=5_099 / 26_032,  # digit 1
        ),
        *CORPORA,
    )
}  # fmt: skip


def register(entry: ImageDataset | ParallelCorpus) -> None:
    """Register a data set, for plugins. See `registries.add`."""
    registries.add(DATASETS, entry, "data set")


def chance_error(name: str) -> float:
    """Chance-level error on the data set `name`, a fraction; NaN for unknown data sets."""
    entry = DATASETS.get(name)
    return float("nan") if entry is None else entry.chance_error


_CIFAR = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010], "padding": 4, "flip": True}

IMPLIED: dict[str, dict[str, Any]] = {
    "digits": {"mean": [0.2874], "std": [0.3534], "padding": 1, "flip": False},
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "svhn": {"mean": [0.4377, 0.4438, 0.4728], "std": [0.1980, 0.2010, 0.1970], "padding": 4, "flip": True},
}
"""Data set → `ImageDataset.treatment` of results whose recipe has none. Never change it: early results recorded only
the name of the data set, and stay valid as long as its entry is equal to this."""
