"""Fingerprints contain every setting that changes a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_study import mapping, study_of

from three_regime.config import Training, resolve
from three_regime.study.products import products_of, training_recipe

BASE: dict[str, Any] = {"epochs": 6, "milestones": (3,), "warmup": 1}

OTHER: dict[str, Any] = {
    "optimiser": "adam", "learning_rate": 0.2, "momentum": 0.5, "weight_decay": 0.0, "batch_size": 32, "epochs": 7,
    "milestones": (4,), "gamma": 0.5, "drop_last": True, "sam_rho": 0.1, "warmup": 2, "warmup_start": 1e-3,
    "accumulate": 2, "clip_norm": 1.0, "dropout": 0.1, "label_smoothing": 0.1, "shuffle_ties": True,
    "precision": "fp32", "schedule": "inverse_sqrt", "betas": (0.5, 0.9), "epsilon": 1e-6,
    "epsilon_placement": "fairseq", "iterations": 60,
}  # fmt: skip
"""Another value of each setting than its default or that of ``BASE``."""

MEASURES_ALONE = {"evaluate_every"}
"""Settings that change how often a training is looked at, and no number of its result."""


def test_every_setting_of_a_training_is_here() -> None:
    assert set(OTHER) | MEASURES_ALONE == set(Training.model_fields)


@pytest.mark.parametrize("name", sorted(OTHER))
def test_another_value_is_another_recipe(name: str) -> None:
    base = dict(BASE)
    if name in ("betas", "epsilon", "epsilon_placement"):
        base["optimiser"] = "adam"
    changed = {**base, name: OTHER[name]}
    if name == "iterations":
        changed.pop("epochs")
    if name == "schedule":
        changed.pop("milestones")
        base.pop("milestones")
    assert training_recipe(Training(**changed)) != training_recipe(Training(**base))


@pytest.mark.parametrize("unused", [{"epsilon_placement": "fairseq"}, {"warmup_start": 0.05}])
def test_what_has_no_effect_is_in_no_recipe(unused: dict[str, object]) -> None:
    """The placement of Adam's epsilon with SGD; where a warm-up begins that there is not."""
    usual = Training(epochs=4, milestones=(2,))
    assert training_recipe(usual.model_copy(update=unused)) == training_recipe(usual)


@pytest.mark.parametrize("name", sorted(MEASURES_ALONE))
def test_how_often_it_is_evaluated_is_in_no_recipe(name: str) -> None:
    assert training_recipe(Training(**BASE, **{name: 2})) == training_recipe(Training(**BASE))


def test_an_early_checkpoint_does_not_depend_on_what_comes_later() -> None:
    long = Training(epochs=10, milestones=(3, 8))
    assert training_recipe(long, 5) == training_recipe(Training(epochs=6, milestones=(3,)), 5)
    assert training_recipe(long, 5) != training_recipe(Training(epochs=6, milestones=(4,)), 5)
    assert training_recipe(long, 5) != training_recipe(long, 6)


def test_an_annealed_early_checkpoint_depends_on_the_length() -> None:
    short, long = (Training(epochs=epochs, schedule="cosine") for epochs in (6, 10))
    assert training_recipe(short, 5) != training_recipe(long, 5)


def test_an_imported_checkpoint_is_bound_to_its_place() -> None:
    study = study_of(resolve(mapping(Path("anywhere"), dense_seeds=[1, 2])))
    found = [product.imported_fingerprint for product in products_of(study, ("dense", "prune", "retrain"))]
    assert len(set(found)) == len(found) > 10
