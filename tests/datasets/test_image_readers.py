"""Readers: arrays written by preparation from real and synthetic raw files."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from three_regime.datasets import sources, torchvision_images
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.preparation.prepare import prepare
from three_regime.system.files import read_arrays, read_metadata


def test_digits_are_prepared_once(tmp_path: Path) -> None:
    assert prepare("digits", tmp_path)
    before = (tmp_path / "digits.safetensors").read_bytes()
    assert not prepare("digits", tmp_path)
    assert (tmp_path / "digits.safetensors").read_bytes() == before
    arrays = read_arrays(tmp_path / "digits.safetensors")
    assert arrays["train_images"].shape == (1437, 8, 8, 1)
    assert arrays["test_labels"].shape == (360,)
    assert arrays["train_images"].max() == 240
    pixels = arrays["train_images"] / 255
    assert pixels.mean() == pytest.approx(DATASETS["digits"].mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(DATASETS["digits"].std[0], abs=1e-4)


def test_a_damaged_array_file_is_prepared_again(tmp_path: Path) -> None:
    prepare("digits", tmp_path)
    path = tmp_path / "digits.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert prepare("digits", tmp_path)
    assert read_metadata(path)["fingerprint"]


def test_real_cifar10(cifar10_batches: Path) -> None:
    arrays = torchvision_images.read_cifar10(cifar10_batches)
    with open(cifar10_batches / "cifar-10-batches-py" / "data_batch_1", "rb") as file:
        first = pickle.load(file, encoding="latin1")
    assert arrays["train_images"].shape == (50_000, 32, 32, 3)
    assert arrays["test_images"].shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(arrays["train_images"][7, :, :, 2].ravel(), first["data"][7, 2048:])
    np.testing.assert_array_equal(arrays["train_labels"][:10_000], first["labels"])


def test_a_truncated_batch_is_named(cifar10_batches: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for path in (cifar10_batches / "cifar-10-batches-py").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "data_batch_3").unlink()
    with pytest.raises(UserError, match="data_batch_3 is missing"):
        torchvision_images.read_cifar10(tmp_path)
    (folder / "data_batch_3").write_bytes(b"half")
    with pytest.raises(UserError, match="data_batch_3 is truncated or altered"):
        torchvision_images.read_cifar10(tmp_path)


def test_cifar100_uses_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    generator = np.random.default_rng(0)
    digests = {}
    for name in ("train", "test", "meta"):
        content = {
            "data": generator.integers(0, 256, (5, 3072), dtype=np.uint8),
            "fine_labels": [3, 1, 4, 99, 5],
            "coarse_labels": [0] * 5,
            "fine_label_names": [str(i) for i in range(100)],
        }
        (folder / name).write_bytes(pickle.dumps(content))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    dataset = torchvision_images.import_torchvision().datasets.CIFAR100
    everything = sources.load_sources()
    members = {f"cifar-100-python/{name}": f"md5:{digest}" for name, digest in digests.items()}
    everything["cifar100"] = sources.Source(**{**vars(everything["cifar100"]), "members": members})
    monkeypatch.setattr(torchvision_images, "load_sources", lambda: everything)
    monkeypatch.setattr(dataset, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(dataset, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": digests["meta"]})
    arrays = torchvision_images.read_cifar100(tmp_path)
    assert arrays["train_labels"].tolist() == [3, 1, 4, 99, 5]
    assert arrays["test_images"].shape == (5, 32, 32, 3)


def test_svhn_is_upright_and_zero_is_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    dataset = torchvision_images.import_torchvision().datasets.SVHN
    table = dict(dataset.split_list)
    names = {"train": "svhn_train", "test": "svhn_test"}
    everything = sources.load_sources()
    for split, source in names.items():
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": np.array([[1], [10], [9], [10]], dtype=np.uint8)})
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        table[split] = [table[split][0], path.name, digest]
        everything[source] = sources.Source(**{**vars(everything[source]), "digest": f"md5:{digest}"})
    monkeypatch.setattr(dataset, "split_list", table)
    monkeypatch.setattr(torchvision_images, "load_sources", lambda: everything)
    arrays = torchvision_images.read_svhn(tmp_path)
    np.testing.assert_array_equal(arrays["train_images"][2], images[..., 2])
    assert arrays["test_labels"].tolist() == [1, 0, 9, 0]
