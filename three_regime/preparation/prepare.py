"""Preparation: one array file a set of images or one folder a corpus, which training maps; nothing is decoded later."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from three_regime.config import DatasetChoice
from three_regime.datasets.registry import ImageDataset
from three_regime.errors import UserError
from three_regime.study import provenance
from three_regime.study.fingerprints import fingerprint_of, stored_fingerprint
from three_regime.study.grid import prepared_path
from three_regime.study.results import FINGERPRINT_KEY
from three_regime.system.files import PROVENANCE_KEY, read_arrays, write_arrays

TEXT_SETTINGS = ("train_pairs", "subwords", "max_tokens", "ratio")
"""Settings that change a prepared corpus."""

OWN_SETTINGS = ("files", "languages")
"""The same, of text that the configuration names."""

log = logging.getLogger(__name__)


def prepare(choice: DatasetChoice | str, data: Path) -> bool:
    """Write what `prepared_path` names from ``<data>/raw/<name>``; False when it was there already.

    Images: arrays ``{train,test}_images`` (N, H, W, C) uint8, ``{train,test}_labels`` (N,) int64. Text: see
    `three_regime.preparation.parallel_text`.

    Parameters
    ----------
    choice
        A data set, or the name of one with the defaults of its settings.

    Raises
    ------
    UserError
        Naming the raw file that is missing or altered, or when the numbers of images are not the data set's.
    """
    choice = DatasetChoice(name=choice) if isinstance(choice, str) else choice
    path, raw = prepared_path(choice, data), data / "raw" / choice.name
    if is_prepared(choice, data):
        log.info("%s is there already", path)
        return False
    if choice.entry.kind == "text":
        from three_regime.preparation import parallel_text

        parallel_text.prepare(choice, path, raw, recipe(choice))
    else:
        _prepare_images(choice, path, choice.entry, raw)
    return True


def _prepare_images(choice: DatasetChoice, path: Path, entry: ImageDataset, raw: Path) -> None:
    began = time.monotonic()
    fingerprint = fingerprint_of(recipe(choice), {})
    arrays = entry.read(raw)
    for split, expected in (("train", entry.train_images), ("test", entry.test_images)):
        if len(arrays[f"{split}_images"]) != expected:
            raise UserError(f"{entry.name} has {len(arrays[f'{split}_images'])} {split} images instead of {expected}")
    record = provenance.record(
        fingerprint=fingerprint,
        recipe=recipe(choice),
        inputs={},
        device="cpu",
        threads=1,
        wall_s=time.monotonic() - began,
    )
    write_arrays(path, arrays, {FINGERPRINT_KEY: fingerprint, PROVENANCE_KEY: json.dumps(record)})
    log.info("%s: %s training and %s test images", path, f"{entry.train_images:,}", f"{entry.test_images:,}")


def is_prepared(choice: DatasetChoice, data: Path) -> bool:
    """Whether the prepared file is there and was prepared as it would be now."""
    return stored_fingerprint(prepared_path(choice, data)) == fingerprint_of(recipe(choice), {})


def check_prepared(choice: DatasetChoice, data: Path) -> None:
    """Refuse a file that was prepared otherwise than it would be now; one that cannot be read is its reader's matter.

    Raises
    ------
    UserError
        Naming the file and what prepares it again.
    """
    path = prepared_path(choice, data)
    if stored_fingerprint(path) is not None and not is_prepared(choice, data):
        raise UserError(
            f"{path} was prepared for another version of {choice.name} or with other settings: delete it, and run"
            " `snakemake data` or `python -m three_regime run-stage prepare`"
        )


def is_intact(choice: DatasetChoice, data: Path) -> bool:
    """Whether it is prepared (`is_prepared`) and the content of its files has the digests that they carry."""
    try:
        if choice.entry.kind == "text":
            from three_regime.preparation.prepared_text import verify

            verify(prepared_path(choice, data))
        else:
            read_arrays(prepared_path(choice, data))
    except UserError:
        return False
    return is_prepared(choice, data)


def recipe(choice: DatasetChoice) -> dict[str, Any]:
    """What changes the prepared data. How many images or held-out pairs are used later does not."""
    settings = {"stage": "prepare", "version": choice.entry.version, "dataset": choice.name}
    if choice.entry.kind == "text":
        settings |= {key: getattr(choice, key) for key in TEXT_SETTINGS}
        own = {key: getattr(choice, key) for key in OWN_SETTINGS}
        settings |= {key: list(value) if isinstance(value, tuple) else value for key, value in own.items() if value}
    return settings


def chosen(recipe: Mapping[str, Any]) -> DatasetChoice:
    """The data set that a recipe describes, in full."""
    settings = {key: recipe[key] for key in (*TEXT_SETTINGS, *OWN_SETTINGS) if key in recipe}
    return DatasetChoice(name=recipe["dataset"], **settings)
