"""Preparation: one array file a data set, which training maps; no image is decoded after this."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from three_regime import provenance
from three_regime.datasets import DATASETS, PREPARED_VERSION
from three_regime.errors import UserError
from three_regime.stages import FINGERPRINT_KEY, PROVENANCE_KEY, fingerprint_of, stored_fingerprint
from three_regime.storage import write_arrays

log = logging.getLogger(__name__)


def prepare(name: str, folder: Path) -> bool:
    """Write ``<folder>/<name>.safetensors`` from ``<folder>/raw/<name>``; False when it was there already.

    Arrays: ``{train,test}_images`` (N, H, W, C) uint8, ``{train,test}_labels`` (N,) int64.

    Raises
    ------
    UserError
        Naming the raw file that is missing or altered, or when the numbers of images are not the data set's.
    """
    path = folder / f"{name}.safetensors"
    recipe = _recipe(name)
    fingerprint = fingerprint_of(recipe, {})
    if is_prepared(name, folder):
        log.info("%s is there already", path)
        return False
    began = time.monotonic()
    entry = DATASETS[name]
    arrays = entry.read(folder / "raw" / name)
    for split, expected in (("train", entry.train_images), ("test", entry.test_images)):
        if len(arrays[f"{split}_images"]) != expected:
            raise UserError(f"{name} has {len(arrays[f'{split}_images'])} {split} images instead of {expected}")
    record = provenance.record(
        fingerprint=fingerprint,
        recipe=recipe,
        inputs={},
        device="cpu",
        threads=1,
        wall_s=time.monotonic() - began,
    )
    write_arrays(path, arrays, {FINGERPRINT_KEY: fingerprint, PROVENANCE_KEY: json.dumps(record)})
    log.info("%s: %s training and %s test images", path, f"{entry.train_images:,}", f"{entry.test_images:,}")
    return True


def is_prepared(name: str, folder: Path) -> bool:
    """Whether ``<folder>/<name>.safetensors`` is there and was prepared as it would be now."""
    return stored_fingerprint(folder / f"{name}.safetensors") == fingerprint_of(_recipe(name), {})


def _recipe(name: str) -> dict[str, Any]:
    return {"stage": "prepare", "version": PREPARED_VERSION, "dataset": name}
