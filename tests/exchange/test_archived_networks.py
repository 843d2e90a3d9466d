"""The archived networks of Figure 2's cells give back LMC and CKA on the real CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from checkout import ROOT

from three_regime.exchange.remeasure import remeasure

ARCHIVE = ROOT / "reference" / "obtained" / "figure2-cells"
KEPT = ARCHIVE.with_suffix(".remeasured.csv")
"""What `remeasure` gave when the networks were archived, on the first images of each split."""

IMAGES = {"train_images": 2000, "test_images": 1000}


def test_they_give_the_kept_numbers(cifar10_batches: Path, tmp_path: Path) -> None:
    found, kept = remeasure(ARCHIVE, cifar10_batches, tmp_path / "again", **IMAGES), pd.read_csv(KEPT)
    keys = ["study", "dense_seed", "temperature", "density", "pair"]
    assert found[keys].equals(kept[keys]) and len(found)
    # Rounding moves single images over a decision border.
    assert found["lmc"].to_numpy() == pytest.approx(kept["lmc"].to_numpy(), abs=2 / IMAGES["train_images"])
    assert found["cka_softmax"].to_numpy() == pytest.approx(kept["cka_softmax"].to_numpy(), abs=1e-4)
    # 2,000 of 50,000 images: three standard errors of a difference of two proportions.
    assert found["lmc"].to_numpy() == pytest.approx(kept["lmc_archived"].to_numpy(), abs=0.035)
