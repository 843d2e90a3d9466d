"""Random streams: named, independent, and the same in every process."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from tiny_study import config, study_of

from three_regime.random_streams import Streams
from three_regime.study.products import pack

NAMES = [
    ("dense", 1, "order", 0),
    ("dense", 1, "order", 1),
    ("dense", 2, "order", 0),
    ("dense", 1, "augmentation", 0),
    ("retrain", 1, 1, "order", 0),
    ("retrain", 1, 2, "order", 0),
    ("retrain", 2, 1, "order", 0),
    ("retrain", 1, 11, "order", 0),
    ("retrain", 11, 1, "order", 0),
    ("retrain", "1", 1, "order", 0),
    ("retrain", 1, 1, "order", 10),
]


def draw(name: tuple, count: int = 1000) -> np.ndarray:
    return Streams(name[:1]).generator(*name[1:]).standard_normal(count)


def test_one_name_one_stream_however_it_is_divided():
    whole = Streams(("retrain", 1, 2)).generator("order", 3).random(5)
    assert np.array_equal(whole, Streams(("retrain",)).generator(1, 2, "order", 3).random(5))
    assert np.array_equal(whole, Streams(("retrain", 1, 2, "order", 3)).generator().random(5))


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(NAMES, 2)))
def test_different_names_are_uncorrelated(first, second):
    assert abs(np.corrcoef(draw(first), draw(second))[0, 1]) < 0.15  # 4.7 standard deviations


def test_drawing_from_one_stream_leaves_the_others():
    streams = Streams(("dense", 1))
    alone = streams.generator("order", 1).permutation(50)
    streams.generator("order", 0).random(1000)
    assert np.array_equal(streams.generator("order", 1).permutation(50), alone)


def test_the_same_in_another_process():
    code = "from three_regime.random_streams import Streams as S\n"
    code += "print(S(('dense', 1)).generator('order', 3).permutation(9))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(Streams(("dense", 1)).generator("order", 3).permutation(9))


def test_the_numbers_of_a_stream_are_pinned():
    """A change here changes every result: it needs new stage versions."""
    raw = Streams(("dense", 1)).generator("order", 0).bit_generator.random_raw(2)
    assert raw.tolist() == [10739183908372233608, 8376560288326818252]


def recipes(tmp_path: Path, **changes) -> dict[tuple, list]:
    study = study_of(config(tmp_path, **changes))
    return {
        (stage, *product.coordinates.values()): product.recipe["streams"]
        for stage in ("dense", "retrain")
        for seed in study.config.dense_seeds
        for temperature in study.temperatures
        for product in pack(study, stage, seed, temperature)
    }


def test_a_larger_grid_changes_no_stream(tmp_path):
    small = recipes(tmp_path)
    large = recipes(
        tmp_path, temperatures=[1, 2, 3], dense={"epochs": 3}, densities=[0.05, 0.1, 0.5], dense_seeds=[5, 1],
        replicas=[7, 1, 2],
    )  # fmt: skip
    assert small.keys() < large.keys()
    assert {where: large[where] for where in small} == small


def test_retraining_depends_on_dense_seed_and_replica_alone(tmp_path):
    found = recipes(tmp_path, dense_seeds=[1, 2])
    by_name = {}
    for (stage, seed, _temperature, *rest), name in found.items():
        if stage == "retrain":
            by_name.setdefault((seed, rest[-1]), set()).add(tuple(name))
    assert by_name == {(seed, replica): {("retrain", seed, replica)} for seed in (1, 2) for replica in (1, 2)}
