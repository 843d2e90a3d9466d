"""The archived networks of Figure 2's cells give back LMC, CKA and what docs/results.md tells of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from checkout import ROOT

from three_regime.exchange import remeasure as remeasuring
from three_regime.exchange.remeasure import Pair, archived_pairs
from three_regime.exchange.single_checkpoints import lmc_of_files
from three_regime.landscape.signs import signs
from three_regime.pruning.masks import split_masks
from three_regime.system.files import read_arrays, write_arrays

ARCHIVE = ROOT / "reference" / "obtained" / "figure2-cells"
KEPT = ARCHIVE.with_suffix(".remeasured.csv")
"""What `remeasure` gave when the networks were archived, on the first images of each split."""

IMAGES = {"train_images": 2000, "test_images": 1000}


REMEASURED = {(10, "1-2"), (80, "1-3"), (160, "2-3")}
"""Pairs that a test measures again, with every replica among them; all nine take three times as long."""


def test_they_give_the_kept_numbers(cifar10_batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(folder: Path) -> Iterator[Pair]:
        return (each for each in archived_pairs(folder) if (each.row["temperature"], each.row["pair"]) in REMEASURED)

    monkeypatch.setattr(remeasuring, "archived_pairs", some)
    found, kept = remeasuring.remeasure(ARCHIVE, cifar10_batches, tmp_path / "again", **IMAGES), pd.read_csv(KEPT)
    assert len(kept) == len(list(archived_pairs(ARCHIVE))) == 9
    kept = kept[[each in REMEASURED for each in zip(kept["temperature"], kept["pair"], strict=True)]]
    kept = kept.reset_index(drop=True)
    keys = ["study", "dense_seed", "temperature", "density", "pair"]
    assert found[keys].equals(kept[keys]) and len(found) == 3
    # Rounding moves single images over a decision border.
    assert found["lmc"].to_numpy() == pytest.approx(kept["lmc"].to_numpy(), abs=2 / IMAGES["train_images"])
    assert found["cka_softmax"].to_numpy() == pytest.approx(kept["cka_softmax"].to_numpy(), abs=1e-4)
    # 2,000 of 50,000 images: three standard errors of a difference of two proportions.
    assert found["lmc"].to_numpy() == pytest.approx(kept["lmc_archived"].to_numpy(), abs=0.035)


@pytest.mark.parametrize(("epochs", "disagreement", "flips"), [(10, 0.23, 4), (80, 0.17, 7), (160, 0.44, 13)])
def test_signs_that_differ_between_replicas(epochs: int, disagreement: float, flips: int) -> None:
    pair = first_pair(epochs)
    (first, masks), (second, same) = (split_masks(read_arrays(path)) for path in (pair.first, pair.second))
    assert all(np.array_equal(mask, same[name]) for name, mask in masks.items())
    one, other = ({name: torch.from_numpy(weights[name]) for name in masks} for weights in (first, second))
    found = signs(one, other, masks)
    assert found == {"sign_disagreement": pytest.approx(disagreement, abs=0.005), "sign_flips": flips}


@pytest.mark.parametrize(("epochs", "changed", "size"), [(10, 0.26, 0.218), (80, 0.19, 0.274), (160, 0.36, 0.206)])
def test_signs_that_retraining_changed(epochs: int, changed: float, size: float) -> None:
    pair = first_pair(epochs)
    dense = read_arrays(pair.first.parents[2] / "dense.safetensors")
    for path in (pair.first, pair.second):
        weights, masks = split_masks(read_arrays(path))
        start, end = ({name: torch.from_numpy(of[name]) for name in masks} for of in (dense, weights))
        assert signs(start, end, masks)["sign_disagreement"] == pytest.approx(changed, abs=0.01)
    kept = np.concatenate([np.abs(dense[name][mask]) for name, mask in masks.items()])
    assert kept.mean() == pytest.approx(size, abs=0.0005)


def test_one_weight_makes_the_jump_after_80_epochs(cifar10_batches: Path, tmp_path: Path) -> None:
    pair = first_pair(80)
    first, second = read_arrays(pair.first), read_arrays(pair.second)
    (place,) = np.argwhere(first["mask:conv1.weight"][5])
    ours, theirs = first["conv1.weight"][5][tuple(place)], second["conv1.weight"][5][tuple(place)]
    assert ours * theirs < 0 and ours / (ours - theirs) == pytest.approx(0.141, abs=0.0005)  # where it is 0
    # The second replica with this weight of the first, so that it is the same along the line.
    second["conv1.weight"][5] = first["conv1.weight"][5]
    write_arrays(tmp_path / "held.safetensors", second, {})
    ends = {"line": pair.second, "held": tmp_path / "held.safetensors"}
    error = {
        name: lmc_of_files(
            pair.first, end, "preresnet-20", "cifar10", cifar10_batches, tmp_path / f"{name}.json",
            train_images=500, test_images=1, batch_size=64, points=6,
        )["train_error"]
        for name, end in ends.items()
    }  # fmt: skip
    at_start, at_a_fifth = error["line"][:2]
    assert error["held"][0] == at_start
    assert at_a_fifth - at_start > 0.06 and abs(error["held"][1] - at_start) < 0.03


def first_pair(epochs: int) -> Pair:
    """Replicas 1 and 2 after this number of dense epochs."""
    wanted = (epochs, "1-2")
    return next(pair for pair in archived_pairs(ARCHIVE) if (pair.row["temperature"], pair.row["pair"]) == wanted)
