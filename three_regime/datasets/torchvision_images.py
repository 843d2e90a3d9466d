"""Read CIFAR-10, CIFAR-100 and SVHN from their official files by torchvision, after checking their digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from three_regime.datasets.sources import digest_of, load_sources
from three_regime.datasets.torchvision_import import import_torchvision
from three_regime.errors import UserError


def read_cifar10(raw: Path) -> dict[str, np.ndarray]:
    """Read ``raw/cifar-10-batches-py``; see `check` for errors."""
    check(raw, "cifar10")
    dataset = import_torchvision().datasets.CIFAR10
    return _arrays({split: dataset(str(raw), train=split == "train", download=False) for split in ("train", "test")})


def read_cifar100(raw: Path) -> dict[str, np.ndarray]:
    """Read ``raw/cifar-100-python`` with the 100 fine labels; see `check` for errors."""
    check(raw, "cifar100")
    dataset = import_torchvision().datasets.CIFAR100
    return _arrays({split: dataset(str(raw), train=split == "train", download=False) for split in ("train", "test")})


def read_svhn(raw: Path) -> dict[str, np.ndarray]:
    """Read ``raw/{train,test}_32x32.mat``, cropped digits; see `check` for errors."""
    check(raw, "svhn_train", "svhn_test")
    dataset = import_torchvision().datasets.SVHN
    splits = {split: dataset(str(raw), split=split, download=False) for split in ("train", "test")}
    for split in splits.values():
        split.data, split.targets = split.data.transpose(0, 2, 3, 1), split.labels  # torchvision: N, C, H, W
    return _arrays(splits)


def check(raw: Path, *names: str) -> None:
    """Check the published digests of a data set's files before they are read (CIFAR batches are pickles).

    Raises
    ------
    UserError
        When a file is missing, truncated or altered; the message names it.
    """
    for name in names:
        for relative, published in load_sources()[name].files.items():
            path = Path(raw) / relative
            if not path.is_file():
                raise UserError(f"{path} is missing: {name} is read from a folder that holds {Path(relative).parts[0]}")
            found = digest_of(path, published)
            if found != published:
                raise UserError(f"{path} is truncated or altered: its digest is {found}, published is {published}")


def _arrays(splits: dict[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for split, images in splits.items():
        arrays[f"{split}_images"] = np.ascontiguousarray(images.data, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(images.targets, dtype=np.int64)
    return arrays
