"""Tables of a study: every column is there, whether or not there is anything to put into it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_study import STUDY, config, files, products, study_of

from three_regime.analysis import tables
from three_regime.study.outputs import CELL_TABLES
from three_regime.system.files import read_json

CELL = ["dense_seed", "temperature", "density"]
BARRIERS = ["lmc", "lmc_middle", "lmc_nll", "lmc_test", "lmc_test_nll", "cka_logits", "cka_softmax"]
COLUMNS = {
    "cells": [
        "study", "dataset", "model", "knob", *CELL, "dense_test_error", "dense_train_error", "model_density",
        "test_error", "test_error_sd", "replicas",
        *(f"{name}{kind}" for name in BARRIERS for kind in ("", "_sd")), "pairs", "origin",
    ],
    "replicas": [
        *CELL, "replica", "test_error", "final_test_error", "final_test_nll", "final_train_error", "final_train_nll",
        "origin",
    ],
    "pairs": [*CELL, "pair", *BARRIERS],
    "lines": [*CELL, "pair", "t", "train_error", "train_nll", "test_error", "test_nll"],
    "curves": [
        "stage", *CELL, "replica", "epoch", "iterations", "learning_rate", "train_loss", "train_error", "test_error",
        "test_nll",
    ],
    "sparsity": [*CELL, "layer", "kept", "total"],
    "provenance": [
        "stage", *CELL, "replica", "pair", "origin", "device", "threads", "wall_s", "commit", "finished", "torch",
        "fingerprint",
    ],
}  # fmt: skip

NEEDED = {
    **{name: COLUMNS[name] for name in ("cells", "pairs", "lines", "sparsity", "provenance")},
    "replicas": [*CELL, "replica", "test_error", "origin"],
    "curves": ["stage", *CELL, "replica", "epoch", "train_loss", "train_error", "test_error"],
}
"""Columns that a table has without a row: those that its readers ask for."""


@pytest.fixture(scope="module")
def whole(finished_study: Path) -> dict[str, pd.DataFrame]:
    """The tables of the smallest study with everything in it."""
    return tables.build(study_of(config(finished_study)))


def test_the_columns_of_each_table(whole):
    assert {name: list(table) for name, table in whole.items()} == COLUMNS
    assert tuple(whole) == CELL_TABLES


def test_a_study_without_results_has_every_cell_and_every_header(tmp_path):
    found = tables.build(study_of(config(tmp_path)))
    assert {name: list(table) for name, table in found.items()} == NEEDED
    assert all(found[name].empty for name in found if name != "cells")
    cells = found["cells"]
    expected = [(seed, temperature, density) for seed in STUDY["dense_seeds"] for temperature in STUDY["temperatures"]
                for density in STUDY["densities"]]  # fmt: skip
    assert list(cells[CELL].itertuples(index=False, name=None)) == expected
    assert set(cells["replicas"]) == set(cells["pairs"]) == {0} and set(cells["origin"]) == {"computed"}
    assert cells[["dense_test_error", "test_error", *BARRIERS]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("stage", "emptied", "unknown"),
    [
        ("dense", [], ["dense_test_error", "dense_train_error"]),
        ("prune", ["sparsity"], ["model_density"]),
        ("retrain", ["replicas"], ["test_error", "test_error_sd"]),
        ("lmc", ["lines"], [name for name in BARRIERS if name.startswith("lmc")]),
        ("cka", [], ["cka_logits", "cka_softmax"]),
    ],
)
def test_without_one_stage_the_others_keep_their_numbers(study_folder, whole, stage, emptied, unknown):
    settings = config(study_folder)
    for path in files(settings, stage):
        path.unlink()
    found = tables.build(study_of(settings))
    assert [name for name, table in found.items() if table.empty] == emptied
    assert {name: list(found[name]) for name in emptied} == {name: NEEDED[name] for name in emptied}
    cells = found["cells"]
    assert cells[unknown].isna().all(axis=None) and whole["cells"][unknown].notna().any(axis=None)
    kept = [
        name
        for name in ("dense_test_error", "model_density", "test_error", "lmc", "cka_softmax")
        if name not in unknown
    ]
    pd.testing.assert_frame_equal(cells[[*CELL, *kept]], whole["cells"][[*CELL, *kept]])


def test_a_replica_has_the_numbers_of_its_result(finished_study, whole):
    first = whole["replicas"].iloc[0]
    (product, *_) = products(config(finished_study), "retrain")
    result = read_json(product.outputs[0])
    assert first["test_error"] == result["test_error"]
    for split in ("train", "test"):
        found = first[[f"final_{split}_error", f"final_{split}_nll"]].tolist()
        assert found == [result[split]["error"], result[split]["nll"]]
    assert result["test"] != result["train"]


def test_a_cell_is_the_mean_of_its_replicas_and_pairs(whole):
    cells = whole["cells"].set_index(CELL)
    for name, table in (("test_error", whole["replicas"]), ("lmc", whole["pairs"]), ("cka_softmax", whole["pairs"])):
        groups = table.groupby(CELL)[name]
        pd.testing.assert_series_equal(cells[name], groups.mean())
        pd.testing.assert_series_equal(cells[f"{name}_sd"], groups.std(), check_names=False)
    assert cells["replicas"].tolist() == whole["replicas"].groupby(CELL).size().tolist()
    assert cells["pairs"].tolist() == whole["pairs"].groupby(CELL).size().tolist()


def test_a_cell_has_the_numbers_of_its_results(finished_study: Path, whole: dict[str, pd.DataFrame]) -> None:
    settings = config(finished_study)
    dense, line = (read_json(products(settings, stage)[0].outputs[0]) for stage in ("dense", "lmc"))
    assert dense["test"]["error"] != dense["train"]["error"]
    cell, pair = whole["cells"].iloc[0], whole["pairs"].iloc[0]
    assert cell[["dense_test_error", "dense_train_error"]].tolist() == [dense["test"]["error"], dense["train"]["error"]]
    ends = (line["train_error"][0] + line["train_error"][-1]) / 2
    assert pair["lmc_middle"] == ends - line["train_error"][1], "three points: one in the middle"
