"""Grids over another load: which studies can be joined, and what they are joined by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_study import STUDY

from three_regime.config import Config, DatasetChoice, merge, resolve
from three_regime.config.loads import LOADS
from three_regime.errors import UserError
from three_regime.study.grid import family_names, planned, thresholds_of, without_sam
from three_regime.study.load_grids import load_grids


def settings(grid: dict[str, Any], *changes: dict[str, Any]) -> Config:
    """Studies ``a``, ``b``, … that differ from the tiny one by `changes`, and a grid of all."""
    names = "abcdef"[: len(changes)]
    studies = {name: merge(STUDY, change) for name, change in zip(names, changes, strict=True)}
    grids = {"joined": {"density": STUDY["densities"][0], "studies": list(names), **grid}}
    return resolve({"run": list(names), "studies": studies, "load_grids": grids, "results": "results/x"})


@pytest.mark.parametrize(
    ("load", "changes", "values"),
    [
        ("label_noise", [{"dataset": {"label_noise": 0.4}}, {}], [0, 0.4]),
        ("training_size", [{"dataset": {"train_images": None}}, {}], [200, 1437]),
        ("width", [{"model": "preresnet-8x2"}, {"model": "preresnet-8"}, {}], [0.25, 1, 2]),
    ],
)
def test_the_load_of_each_study_is_read_from_its_settings(load: str, changes: list, values: list) -> None:
    (grid,) = load_grids(settings({"load": load}, *changes))
    assert list(grid.studies) == values and grid.load is LOADS[load]
    assert grid.folder == Path("results/x/joined")


def test_its_thresholds_are_those_of_its_studies() -> None:
    own = {"regimes": {"lmc": -0.07}}
    config = settings({"load": "label_noise"}, {**own, "dataset": {"label_noise": 0.4}}, own)
    assert thresholds_of(config, "joined").lmc == load_grids(config)[0].thresholds.lmc == -0.07


NOISY = {"dataset": {"label_noise": 0.4}}


@pytest.mark.parametrize(
    ("grid", "changes", "complaint"),
    [
        ({"load": "noise"}, [NOISY, {}], "unknown load 'noise'; did you mean 'label_noise'"),
        ({"load": "density"}, [NOISY, {}], "unknown load 'density'"),
        ({"load": "label_noise"}, [{}, {}], "a label noise of its own, but they have a 0, b 0"),
        ({"load": "label_noise", "density": 0.33}, [NOISY, {}], "a has no density 0.33"),
        ({"load": "label_noise", "studies": ["a", "c"]}, [NOISY, {}], "unknown study 'c'"),
        ({"load": "label_noise", "studies": ["a", "b", "b"]}, [NOISY, {}], "holds a study twice"),
        ({"load": "label_noise", "studies": ["a"]}, [NOISY, {}], "must have at least 2 values"),
        (
            {"load": "label_noise"},
            [NOISY, {"knob": "batch_size", "temperatures": [16, 32]}],
            "share the knob: a has epochs, b batch_size",
        ),
        (
            {"load": "width"},
            [{"model": "preresnet-14"}, {"model": "preresnet-8x2"}],
            "family and depth: a has preresnet-14",
        ),
        ({"load": "width"}, [NOISY, {"model": "preresnet-8x2"}], "share the label noise: a has 0.4, b 0"),
        (
            {"load": "label_noise"},
            [NOISY, {"regimes": {"lmc": -0.07}}],
            "share the LMC threshold: a has -0.12, b -0.07",
        ),
    ],
)
def test_studies_that_cannot_be_joined_are_refused(grid: dict, changes: list, complaint: str) -> None:
    with pytest.raises(UserError, match="load_grids.*") as refused:
        settings(grid, *changes)
    assert complaint in str(refused.value)


def test_thresholds_may_be_stated_or_inherited() -> None:
    assert load_grids(settings({"load": "label_noise"}, {**NOISY, "regimes": {"lmc": -0.12}}, {}))


def test_a_run_without_one_of_its_studies_leaves_a_grid_out() -> None:
    config = settings({"load": "label_noise"}, NOISY, {})
    assert load_grids(config) and load_grids(config.model_copy(update={"run": ("a",)})) == []
    assert resolve({**config.model_dump(mode="json"), "run": ["a"]}).load_grids == config.load_grids


def test_a_whole_corpus_has_no_training_size_before_cleaning() -> None:
    assert DatasetChoice(name="multi30k-de-en").training_size is None
    assert DatasetChoice(name="multi30k-de-en", train_pairs=500).training_size == 500


def test_studies_on_different_parts_of_a_data_set_are_told_apart() -> None:
    alike = planned(settings({"load": "width"}, {"model": "preresnet-8x2"}, {}))
    assert family_names(alike) == {"a": "digits", "b": "digits"}
    noisy, clean = family_names(planned(settings({"load": "label_noise"}, NOISY, {}))).values()
    assert noisy == "digits (200 training examples, label noise 0.4)" and clean == "digits (200 training examples)"


def test_a_grid_cannot_take_the_folder_of_a_study() -> None:
    grid = {"load": "label_noise", "density": STUDY["densities"][0], "studies": ["a", "b"]}
    studies = {"a": merge(STUDY, NOISY), "b": STUDY}
    with pytest.raises(UserError, match=r"load_grids\.a.*another name"):
        resolve({"run": ["a", "b"], "studies": studies, "load_grids": {"a": grid}})


def test_ways_of_pruning_are_families_of_their_own() -> None:
    two = {"model": "preresnet-8x2"}
    sizes = settings({"load": "width"}, merge(two, {"prune": {"allocation": "global"}}), {})
    assert set(family_names(planned(sizes)).values()) == {"digits (allocation global)", "digits"}
    starts = settings({"load": "width"}, merge(two, {"retrain": {"start": "reinitialised"}}), {})
    assert set(family_names(planned(starts)).values()) == {"digits (start reinitialised)", "digits"}


def test_the_study_without_sam_trains_alike() -> None:
    sam = {"knob": "sam_rho", "temperatures": [0.05, 0.1]}

    def plain(**changes: Any) -> dict[str, str]:
        studies = {"a": merge(STUDY, changes), "b": merge(STUDY, sam)}
        return without_sam(planned(resolve({"run": ["a", "b"], "studies": studies})))

    assert plain() == {"b": "a"}
    assert plain(dense={"learning_rate": 0.01}) == plain(prune={"allocation": "global"}) == {}
