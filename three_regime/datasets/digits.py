"""The 8×8 handwritten digits bundled with scikit-learn (UCI optical recognition test set)."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read(raw: Path) -> dict[str, np.ndarray]:
    """Read the bundled digits: the first 1,437 images for training, the last 360 for testing (this project's split).

    Pixel values 0…16 are multiplied by 15 and stored as uint8 (0…240); `raw` is not used.
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = np.rint(bundle.images * 15).astype(np.uint8)[..., None]
    labels = bundle.target.astype(np.int64)
    return {
        "train_images": images[:1437],
        "train_labels": labels[:1437],
        "test_images": images[1437:],
        "test_labels": labels[1437:],
    }
