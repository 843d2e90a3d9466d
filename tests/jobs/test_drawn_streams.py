"""Random numbers of the jobs: those of the streams that the results record, and others for each seed and replica."""

from __future__ import annotations

import pytest
from tiny_study import config, products, run

from three_regime.random_streams import Streams
from three_regime.system.files import read_arrays

ONE = {"temperatures": [2], "densities": [0.5]}
PURPOSES = {"order", "augmentation", "initialisation", "random", "round"}


@pytest.mark.parametrize(
    "prune", [{"criterion": "random"}, {"criterion": "gradient_magnitude"}, {"rounds": 3, "epochs": 1}]
)
def test_numbers_are_drawn_from_the_recorded_streams(tmp_path, monkeypatch, prune):
    drawn, generator = set(), Streams.generator

    def noted(own, *name):
        drawn.add((*own.name, *name))
        return generator(own, *name)

    monkeypatch.setattr(Streams, "generator", noted)
    settings = config(tmp_path, dense_seeds=[1, 2], prune=prune, **ONE)
    for seed in (1, 2):
        for stage in ("dense", "prune", "retrain"):
            drawn.clear()
            run(settings, stage, seed)
            recorded = {tuple(product.recipe["streams"]) for product in products(settings, stage, seed)}
            length = len(min(recorded))
            assert {name[:length] for name in drawn} == recorded
            assert {name[length] for name in drawn} <= PURPOSES
            if stage == "prune" and "rounds" in prune:
                assert {name[3] for name in drawn} == {1, 2}


def test_seeds_and_replicas_differ(tmp_path):
    settings = config(tmp_path, dense_seeds=[1, 2], **ONE)
    for seed in (1, 2):
        for stage in ("dense", "prune", "retrain"):
            run(settings, stage, seed)
    for stage in ("dense", "retrain"):
        paths = [product.outputs[-1] for seed in (1, 2) for product in products(settings, stage, seed)]
        assert len({read_arrays(path)["fc.weight"].tobytes() for path in paths}) == len(paths)
