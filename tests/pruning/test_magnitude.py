"""Magnitude pruning: exact counts, nested masks, the largest kept."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.utils import prune as torch_prune

from three_regime.errors import UserError
from three_regime.pruning.allocation import removed_count
from three_regime.pruning.criteria import CRITERIA
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks, join_masks, sparsity, split_masks

DENSITIES = (0.05, 0.06, 0.07, 0.08, 0.1, 0.14, 0.2, 0.4, 0.8)
LAYERS = {"stem": (16, 3, 3, 3), "block": (17, 11, 3, 3), "shortcut": (7, 5, 1, 1), "odd": (1, 1, 1, 1)}
PRUNABLE = tuple(LAYERS)


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    scales = dict(zip(LAYERS, (1.0, 0.1, 3.0, 1.0), strict=True))
    arrays = {name: generator.normal(0, scales[name], shape).astype(np.float32) for name, shape in LAYERS.items()}
    return {**arrays, "fc.weight": generator.normal(size=(10, 17)).astype(np.float32), "fc.bias": np.zeros(10)}


@pytest.mark.parametrize("density", DENSITIES)
def test_each_layer_loses_exactly_its_share(weights, density):
    masks = magnitude_masks(weights, PRUNABLE, density, "uniform")
    assert tuple(masks) == PRUNABLE
    for name, mask in masks.items():
        assert mask.dtype == bool and mask.shape == weights[name].shape
        assert mask.size - mask.sum() == round((1 - density) * mask.size)


@pytest.mark.parametrize("density", DENSITIES)
def test_global_pruning_removes_exactly_its_share_of_all(weights, density):
    masks = magnitude_masks(weights, PRUNABLE, density, "global")
    total = sum(weights[name].size for name in PRUNABLE)
    removed = total - sum(int(mask.sum()) for mask in masks.values())
    assert removed == round((1 - density) * total)
    kept = np.concatenate([np.abs(weights[name])[masks[name]] for name in PRUNABLE])
    lost = np.concatenate([np.abs(weights[name])[~masks[name]] for name in PRUNABLE])
    assert kept.min() >= lost.max()


@pytest.mark.parametrize("density", DENSITIES)
def test_the_largest_of_each_layer_are_kept(weights, density):
    for name, mask in magnitude_masks(weights, PRUNABLE, density, "uniform").items():
        magnitudes = np.abs(weights[name])
        assert magnitudes[mask].min(initial=np.inf) >= magnitudes[~mask].max(initial=0)


@pytest.mark.parametrize("density", DENSITIES)
def test_as_torch_prunes(weights, density):
    """torch.nn.utils.prune.l1_unstructured, which the authors use, keeps the same weights."""
    for name in ("stem", "block"):
        layer = torch.nn.Conv2d(LAYERS[name][1], LAYERS[name][0], 3, bias=False)
        layer.weight.data = torch.from_numpy(weights[name])
        torch_prune.l1_unstructured(layer, "weight", amount=1 - density)
        found = magnitude_masks(weights, (name,), density, "uniform")[name]
        np.testing.assert_array_equal(found, layer.weight_mask.numpy().astype(bool))


def test_the_criterion_is_that_of_studies(weights, monkeypatch):
    """So what is tested here is what a study computes."""
    smallest = replace(CRITERIA["magnitude"], score=lambda known: {n: -np.abs(w) for n, w in known.weights.items()})
    usual = magnitude_masks(weights, PRUNABLE, 0.4, "uniform")
    monkeypatch.setitem(CRITERIA, "magnitude", smallest)
    assert not (usual["stem"] & magnitude_masks(weights, PRUNABLE, 0.4, "uniform")["stem"]).any()


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_masks_of_decreasing_density_are_nested(weights, allocation):
    weights["block"] = np.round(weights["block"], 1)  # many ties
    masks = [magnitude_masks(weights, PRUNABLE, density, allocation) for density in (*DENSITIES, 1.0)]
    for smaller, larger in itertools.pairwise(masks):
        assert all((larger[name] | ~smaller[name]).all() for name in PRUNABLE)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("density", [0.05, 0.4, 0.8])
def test_pruning_again_at_the_same_density_changes_nothing(weights, density, allocation):
    weights["stem"][:8] = 0  # zeros of its own, more than are removed at 0.8
    masks = magnitude_masks(weights, PRUNABLE, density, allocation)
    again = magnitude_masks(apply_masks(weights, masks), PRUNABLE, density, allocation)
    assert all((masks[name] == again[name]).all() for name in PRUNABLE)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.5, -0.5])
def test_ties_go_in_order_and_the_count_stays_exact(value):
    weights = {"w": np.full((40, 50, 1, 1), value, np.float32)}
    mask = magnitude_masks(weights, ("w",), 0.4, "uniform")["w"].ravel()
    assert mask.tolist() == [False] * 1200 + [True] * 800


def test_among_equal_magnitudes_the_earlier_go_first():
    values = np.random.default_rng(0).integers(-3, 4, 2000).astype(np.float32)
    mask = magnitude_masks({"w": values}, ("w",), 0.4, "uniform")["w"]
    removed = sorted(range(2000), key=lambda k: (abs(values[k]), k))[:1200]
    assert sorted(removed) == np.flatnonzero(~mask).tolist()


def test_the_sign_does_not_matter(weights):
    flipped = {name: -array for name, array in weights.items()}
    first, second = (magnitude_masks(each, PRUNABLE, 0.2, "uniform") for each in (weights, flipped))
    assert all((first[name] == second[name]).all() for name in PRUNABLE)


def test_density_one_keeps_all(weights):
    for allocation in ("uniform", "global"):
        masks = magnitude_masks(weights, PRUNABLE, 1.0, allocation)
        assert all(mask.all() for mask in masks.values())


def test_only_masked_weights_change(weights):
    masks = magnitude_masks(weights, PRUNABLE, 0.1, "uniform")
    pruned = apply_masks(weights, masks)
    assert pruned.keys() == weights.keys()
    for name, array in pruned.items():
        expected = weights[name] * masks[name] if name in masks else weights[name]
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == weights[name].dtype


def test_halves_round_to_even():
    assert [removed_count(size, 0.5) for size in (1, 3, 5, 7)] == [0, 2, 2, 4]


def test_counts_of_each_layer_and_of_the_model(weights):
    masks = magnitude_masks(weights, PRUNABLE, 0.2, "uniform")
    parameters = sum(array.size for array in weights.values())
    counts = sparsity(masks, parameters)
    kept = sum(int(mask.sum()) for mask in masks.values())
    total = sum(mask.size for mask in masks.values())
    assert (counts["kept"], counts["total"]) == (kept, total)
    assert counts["density"] == kept / total
    assert counts["model_density"] == (kept + 180) / parameters
    assert counts["layers"]["stem"] == {"kept": int(masks["stem"].sum()), "total": 432}


def test_masks_and_weights_share_a_file(weights):
    masks = magnitude_masks(weights, PRUNABLE, 0.2, "uniform")
    found, found_masks = split_masks(join_masks(weights, masks))
    assert found.keys() == weights.keys() and found_masks.keys() == masks.keys()
    assert all((found_masks[name] == mask).all() and found_masks[name].dtype == bool for name, mask in masks.items())


@pytest.mark.parametrize("density", [0, -0.1, 1.0001, float("nan")])
def test_a_density_out_of_range_is_refused(weights, density):
    with pytest.raises(UserError, match="density"):
        magnitude_masks(weights, PRUNABLE, density, "uniform")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_network_is_refused_by_name(weights, bad):
    weights["block"][3, 2, 1, 0] = bad
    with pytest.raises(UserError, match="block"):
        magnitude_masks(weights, PRUNABLE, 0.2, "uniform")


def test_a_missing_layer_and_an_unknown_allocation_are_refused(weights):
    with pytest.raises(UserError, match="absent"):
        magnitude_masks(weights, (*PRUNABLE, "absent"), 0.2, "uniform")
    with pytest.raises(UserError, match="'other'.*erk, global, uniform"):
        magnitude_masks(weights, PRUNABLE, 0.2, "other")
