"""What a user's reader returns is checked wherever it is read: in preparation and for single checkpoints."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from three_regime.config import DatasetChoice
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.preparation.prepare import prepare
from three_regime.study.grid import prepared_path
from three_regime.system.files import tensor_digest
from three_regime.tasks.images.task import of_study, opened

ENTRY = replace(DATASETS["digits"], name="mine", reader="mine:read", train_images=30, test_images=20)


def arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    found = {
        f"{split}_images": np.full((count, 8, 8, 1), 7, np.uint8) for split, count in (("train", 30), ("test", 20))
    }
    found |= {"train_labels": np.arange(30) % 10, "test_labels": np.arange(20) % 10}
    return {name: array for name, array in {**found, **changes}.items() if array is not None}


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The module of the reader of data set ``mine``."""
    module = SimpleNamespace(read=lambda raw: arrays())
    monkeypatch.setitem(sys.modules, "mine", module)
    monkeypatch.setitem(DATASETS, "mine", ENTRY)
    return module


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_labels": np.arange(30) % 10 + 1}, "train_labels in 1 … 10 instead of 0 … 9"),
        ({"test_labels": np.arange(20) % 10 - 1}, "test_labels in -1 … 8 instead of 0 … 9"),
        (
            {"train_images": np.zeros((30, 12, 12, 1), np.uint8)},
            "train_images as uint8 (30, 12, 12, 1) instead of uint8 (images, 8, 8, 1)",
        ),
        ({"test_images": np.zeros((20, 8, 8, 1), np.float32)}, "test_images as float32"),
        ({"test_labels": np.zeros(20)}, "test_labels as float64"),
        ({"train_labels": np.arange(29) % 10}, "train_labels as int64 (29) instead of int64 (30)"),
        ({"test_labels": None}, "returns no test_labels"),
    ],
)
def test_a_bad_reader_is_refused_by_name(reader, tmp_path: Path, changes, said: str) -> None:
    reader.read = lambda raw: arrays(**changes)
    told = rf"data set mine \(mine:read\) .*{re.escape(said)}"
    with pytest.raises(UserError, match=told):
        prepare("mine", tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(UserError, match=told):
        opened("mine", tmp_path)


def test_harmless_differences_are_removed() -> None:
    """Other integers, arrays that are not contiguous: the prepared arrays are those of a careful reader."""
    careless = {name: np.repeat(array, 2, axis=0)[::2] for name, array in arrays().items()}
    careless |= {f"{split}_labels": careless[f"{split}_labels"].astype(np.int32) for split in ("train", "test")}
    found = ENTRY.checked(careless)
    assert all(array.flags.c_contiguous for array in found.values())
    assert tensor_digest(found) == tensor_digest(arrays())


def test_prepared_data_are_checked_again(reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier version prepared whatever a reader returned."""
    prepare("mine", tmp_path)
    choice = DatasetChoice(name="mine")
    study = SimpleNamespace(config=SimpleNamespace(dataset=choice), prepared=prepared_path(choice, tmp_path))
    monkeypatch.setitem(DATASETS, "mine", replace(ENTRY, classes=9))
    with pytest.raises(UserError, match="train_labels in 0 … 9 instead of 0 … 8"):
        of_study(study, "cpu")
