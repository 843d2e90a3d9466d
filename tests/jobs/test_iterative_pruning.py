"""Pruning in rounds with training between them: masks, exact counts, schedule, cost, and resumed jobs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_study import config, digests, mapping, products, run, run_to, study_of

from three_regime.config import Config, resolve
from three_regime.errors import Interrupted
from three_regime.jobs import prune
from three_regime.jobs.run import Outcome
from three_regime.planning import plan
from three_regime.planning.pricing import RATES, read_rates
from three_regime.pruning.allocation import kept_counts, masks_of, removed_count
from three_regime.pruning.criteria import densities
from three_regime.pruning.masks import split_masks
from three_regime.study.products import pack
from three_regime.study.verdicts import judge
from three_regime.system.files import read_arrays, read_json
from three_regime.training import trainer

ROUNDS = {"prune": {"rounds": 3, "epochs": 1}}
CELL = {"temperatures": [2], "densities": [0.1]}


def iterative(folder: Path, **changes: Any) -> Config:
    return config(folder, **{**ROUNDS, **CELL, **changes})


def test_scores_of_a_round_are_those_of_its_trained_weights(tmp_path, monkeypatch) -> None:
    """A training that inverts magnitudes: the last round keeps the smallest of what the first left."""
    settings = iterative(tmp_path, prune={"rounds": 2, "epochs": 1})
    run(settings, "dense")
    seen = []

    def inverting(self, number, weights, masks):
        seen.append((number, masks))
        return {
            name: np.where(masks[name], 1 / np.where(masks[name], array, 1), 0) if name in masks else array
            for name, array in weights.items()
        }

    monkeypatch.setattr(prune._Training, "__call__", inverting)
    run(settings, "prune")
    dense = read_arrays(study_of(settings).at(1, 2) / "dense.safetensors")
    weights, masks = split_masks(read_arrays(products(settings, "prune")[0].outputs[-1]))
    [(number, first)] = seen
    assert number == 1
    size = {name: np.abs(dense[name]) for name in masks}
    expected = masks_of(size, 0.1**0.5, "uniform")
    smallest = {name: np.where(expected[name], -size[name], -np.inf) for name in size}
    last = masks_of(smallest, 0.1, "uniform")
    for name in masks:
        np.testing.assert_array_equal(first[name], expected[name])
        np.testing.assert_array_equal(masks[name], last[name])
        np.testing.assert_allclose(weights[name][last[name]], 1 / dense[name][last[name]], rtol=1e-6)


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"criterion": "lamp", "allocation": "global"},
        {"criterion": "gradient_magnitude", "allocation": "erk", "gradient_batches": 1},
        {"criterion": "random"},
    ],
)
def test_counts_are_exact_in_every_round_and_masks_nested(tmp_path, monkeypatch, choice) -> None:
    settings = iterative(tmp_path, prune={**ROUNDS["prune"], **choice})
    allocation, found = settings.studies["tiny"].prune.allocation, []
    original = prune.masks_of
    monkeypatch.setattr(prune, "masks_of", lambda *given: found.append(original(*given)) or found[-1])
    run_to(settings, "prune")
    assert len(found) == 3
    for wanted, masks in zip(densities(0.1, 3), found, strict=True):
        counts = kept_counts({name: mask.shape for name, mask in masks.items()}, wanted, allocation)
        if counts is None:
            total = sum(mask.size for mask in masks.values())
            assert sum(mask.sum() for mask in masks.values()) == total - removed_count(total, wanted)
        else:
            assert {name: mask.sum() for name, mask in masks.items()} == counts
    for before, after in itertools.pairwise(found):
        assert not any((after[name] & ~before[name]).any() for name in after)
    result = read_json(products(settings, "prune")[0].outputs[0])
    assert [each["round"] for each in result["rounds"]] == [1, 2]
    assert [each["kept"] for each in result["rounds"]] == [
        int(sum(mask.sum() for mask in masks.values())) for masks in found[:2]
    ]
    weights, masks = split_masks(read_arrays(products(settings, "prune")[0].outputs[-1]))
    assert all(not weights[name][~mask].any() for name, mask in masks.items())


def test_a_stopped_job_continues_with_the_same_bits(tmp_path, monkeypatch) -> None:
    whole, stopped = iterative(tmp_path / "whole"), iterative(tmp_path / "stopped")
    for settings in (whole, stopped):
        run(settings, "dense")
    assert run(whole, "prune") == Outcome(1, 0)
    original, steps = trainer.TrainingLoop._advance, []

    def counted(self, *given):
        steps.append(self.runs[0].member.label)
        if len(steps) == 6 and not again:  # in the second round, of four steps each
            self.session.stop.request("test")
        return original(self, *given)

    again = False
    monkeypatch.setattr(trainer.TrainingLoop, "_advance", counted)
    with pytest.raises(Interrupted):
        run(stopped, "prune")
    again, before = True, len(steps)
    assert run(stopped, "prune") == Outcome(1, 0)
    assert len(steps) == 8 and before in (6, 7), "no step was repeated"
    assert digests(stopped, "prune") == digests(whole, "prune")
    assert not list(Path(stopped.results).rglob("*.state.safetensors"))[1:], "only the dense run keeps its state"


def test_a_study_runs_to_its_end(tmp_path) -> None:
    settings = iterative(tmp_path)
    run_to(settings, "cka")
    assert all(finding.done for finding in judge(study_of(settings)))


def test_training_between_rounds_follows_retraining() -> None:
    retrain = {"epochs": 8, "milestones": [4, 6], "learning_rate": 0.05}
    study = study_of(resolve(mapping(Path("anywhere"), prune={"rounds": 2, "epochs": 4}, retrain=retrain)))
    between = study.config.between_rounds
    assert (between.epochs, between.milestones, between.learning_rate) == (4, (2, 3), 0.05)
    [product, _] = pack(study, "prune", 1, 2)
    assert product.recipe["training"]["length"] == 4 and set(product.inputs) == {"dense", "data"}
    assert study.config.resources.prune == study.config.resources.retrain
    assert resolve(mapping(Path("anywhere"))).studies["tiny"].resources.prune.gpu == 0


@pytest.mark.parametrize("length", [{"epochs": 10}, {"epochs": None, "iterations": 10 * 4}])
@pytest.mark.parametrize(("schedule", "expected"), [("cosine", 3), ("step", 15)])
def test_an_annealed_warm_up_keeps_its_share(length, schedule, expected) -> None:
    """200 images in batches of 64 make four steps per epoch, so 15 of 40 warm up: 3 of 8 between rounds."""
    retrain = {"batch_size": 64, "milestones": [], "schedule": schedule, "warmup": 15, **length}
    pruning = {"rounds": 2, "epochs": 2}
    between = study_of(resolve(mapping(Path("anywhere"), prune=pruning, retrain=retrain))).config.between_rounds
    assert (between.epochs, between.warmup) == (2, expected)


def test_the_plan_prices_the_rounds() -> None:
    rates = read_rates(RATES, "cpu")

    def seconds(**choice: int) -> float:
        settings = resolve(mapping(Path("anywhere"), prune=choice, **CELL))
        return next(row.seconds for row in plan.make(settings, [], rates).rows if row.stage == "prune")

    plain, two, four = seconds(), seconds(rounds=2, epochs=1), seconds(rounds=4, epochs=1)
    assert plain < two
    assert four - plain == pytest.approx(3 * (two - plain))
