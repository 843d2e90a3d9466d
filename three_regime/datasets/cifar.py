"""CIFAR-10 from its official Python batches, read by torchvision after their digests have been checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from three_regime.compatibility import import_torchvision
from three_regime.errors import UserError


def read_cifar10(raw: Path) -> dict[str, np.ndarray]:
    """Read ``raw/cifar-10-batches-py``.

    The batches are pickles, so each is compared with its published MD5 before torchvision unpickles it.

    Raises
    ------
    UserError
        Naming the file that is missing or does not have its published digest.
    """
    dataset = import_torchvision().datasets.CIFAR10
    folder = Path(raw) / dataset.base_folder
    for name, expected in [*dataset.train_list, *dataset.test_list]:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing: CIFAR-10 is read from a folder that holds {dataset.base_folder}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != expected:
            raise UserError(f"{path} is truncated or altered: its MD5 is {found}, published is {expected}")
    arrays = {}
    for split, train in (("train", True), ("test", False)):
        images = dataset(str(raw), train=train, download=False)
        arrays[f"{split}_images"] = np.ascontiguousarray(images.data, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(images.targets, dtype=np.int64)
    return arrays
