"""An image task on the bundled digits that may use the compiled kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from three_regime import kernels
from three_regime.datasets.registry import DATASETS
from three_regime.tasks.images.task import ImageClassification


def digits_task(model: str, allowed: Literal["auto", "plain"] = "auto") -> ImageClassification:
    """100 training and 50 test images; the kernels are allowed to this task alone."""
    kernels.allow(allowed)
    entry = DATASETS["digits"]
    task = ImageClassification(entry, entry.read(Path()), model, torch.device("cpu"), train_images=100, test_images=50)
    kernels.allow("plain")
    return task
