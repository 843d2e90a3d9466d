"""Studies without controls and additional measures keep their fingerprints and tables, so results stay valid."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_study import mapping, study_of

from three_regime.analysis import seed_means, tables
from three_regime.config import resolve
from three_regime.study.fingerprints import fingerprint_of
from three_regime.study.products import pack
from three_regime.study.stages import STAGES
from three_regime.workflow.rule_parts import settings_fingerprint, study_fingerprint

PINNED = {
    "dense": ("a411b8106f769dc3", "453879e1f2e9c477"),
    "prune": ("342af207e4c13600", "e8001d5ed0fc6c27"),
    "retrain": ("75c1ffa1b555abd1", "b7f2cf93268e894a"),
    "lmc": ("9413e548d1594d4c", "d45b83fa1e675852"),
    "cka": ("513e0ed4868a48bd", "f15c4479ea421aec"),
}
"""Stage → fingerprint of a result whose input digests are their roles, and the hash in its rule's `params`. Both change
only when the stage's version is increased."""

COLUMNS = {
    "cells": "study dataset model knob dense_seed temperature density dense_test_error dense_train_error model_density"
    " test_error test_error_sd replicas lmc lmc_sd lmc_middle lmc_middle_sd lmc_nll lmc_nll_sd lmc_test lmc_test_sd"
    " lmc_test_nll lmc_test_nll_sd cka_logits cka_logits_sd cka_softmax cka_softmax_sd pairs origin",
    "pairs": "dense_seed temperature density pair lmc lmc_middle lmc_nll lmc_test lmc_test_nll cka_logits cka_softmax",
}
GRID = (
    "study knob temperature density dataset model origin seeds dense_test_error test_error lmc lmc_middle lmc_nll"
    " lmc_test cka_logits cka_softmax normalised_test_error test_error_highest"
)
"""Columns of tables, and of the grid without those of the spread; the same before anything has been run."""

SPREAD = ("_se", "_ci95", "_seeds", "_one_seed")


@pytest.mark.parametrize("stage", sorted(PINNED))
def test_fingerprints_of_the_tiny_study(stage: str) -> None:
    study = study_of(resolve(mapping(Path("anywhere"))))
    product = pack(study, stage, 1, 2.0)[0]
    found = fingerprint_of(product.recipe, {role: role for role in product.inputs})[:16]
    assert (found, settings_fingerprint(study, stage, 2.0)) == PINNED[stage]


def test_nothing_is_added_to_it() -> None:
    study = study_of(resolve(mapping(Path("anywhere"))))
    assert {stage for stage in STAGES if pack(study, stage, 1, 2.0)} == set(PINNED)
    assert study_fingerprint(study) == "ebedd25d102e1290"


def test_columns_of_its_tables() -> None:
    built = tables.build(study_of(resolve(mapping(Path("anywhere")))))
    assert {name: list(built[name]) for name in COLUMNS} == {name: each.split() for name, each in COLUMNS.items()}
    columns = [column for column in seed_means.grid(built["cells"]) if not column.endswith(SPREAD)]
    assert columns == GRID.split()
