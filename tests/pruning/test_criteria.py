"""Criteria and allocations: exact counts for every combination, the formulas of their sources, invalid combinations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_study import NAME, config, mapping, products, run, run_to, study_of

from three_regime.config import resolve
from three_regime.errors import UserError
from three_regime.exchange.single_checkpoints import prune_file
from three_regime.models import families
from three_regime.pruning.allocation import ALLOCATIONS, _whole, erk_densities, kept_counts, masks_of, removed_count
from three_regime.pruning.criteria import CRITERIA, Known, densities
from three_regime.pruning.masks import split_masks
from three_regime.random_streams import Streams
from three_regime.study.products import GRADIENT_SETTINGS, pack
from three_regime.system.files import read_arrays, read_json, write_arrays

SHAPES = {"stem": (16, 3, 3, 3), "block": (16, 16, 3, 3), "wide": (64, 32, 3, 3), "shortcut": (32, 16, 1, 1)}
STREAMS = Streams(("prune", 1))


@pytest.fixture
def known() -> Known:
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    gradients = {name: generator.normal(size=shape) for name, shape in SHAPES.items()}
    return Known(weights, STREAMS, gradients)


@pytest.mark.parametrize("density", [1.0, 0.8, 0.5, 0.123, 0.05, 0.002])
@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_combination_keeps_exactly_its_counts(known, criterion, density):
    total = sum(array.size for array in known.weights.values())
    for allocation in ALLOCATIONS:
        masks = masks_of(CRITERIA[criterion].score(known), density, allocation)
        kept = {name: int(mask.sum()) for name, mask in masks.items()}
        assert {name: mask.shape for name, mask in masks.items()} == SHAPES
        counts = kept_counts(SHAPES, density, allocation)
        assert counts in (None, kept)
        if allocation == "uniform":
            assert kept == {name: array.size - removed_count(array.size, density)
                            for name, array in known.weights.items()}  # fmt: skip
        else:
            assert sum(kept.values()) == total - removed_count(total, density)


def test_erk_follows_its_formula_and_keeps_small_layers_dense():
    found = erk_densities(SHAPES, 0.1)
    raw = {name: sum(shape) / np.prod(shape) for name, shape in SHAPES.items()}
    sizes = {name: np.prod(shape) for name, shape in SHAPES.items()}
    assert sum(sizes[name] * found[name] for name in SHAPES) == pytest.approx(0.1 * sum(sizes.values()))
    assert found["block"] / found["wide"] == pytest.approx(raw["block"] / raw["wide"])
    # At half density the density of the stem would exceed 1, so it stays dense.
    assert erk_densities(SHAPES, 0.5)["stem"] == 1.0
    assert set(erk_densities(SHAPES, 1.0).values()) == {1.0}


def test_erk_rounds_up_the_layers_with_the_largest_fractions():
    """Shares of 17.04, 155.07, 17.04 and 10.84 weights at 5 %: 200 in all."""
    shapes = {"a": (10, 100), "b": (1000, 1), "c": (100, 10), "d": (20, 50)}
    assert kept_counts(shapes, 0.05, "erk") == {"a": 17, "b": 155, "c": 17, "d": 11}


def test_lamp_is_the_square_over_what_is_not_smaller():
    weights = {"a": np.array([3.0, -1.0, 2.0, 0.0]), "b": np.array([0.1, 0.2])}
    scores = CRITERIA["lamp"].score(Known(weights, STREAMS))
    assert np.exp(scores["a"]) == pytest.approx([1.0, 1 / 14, 4 / 13, 0.0])
    assert np.exp(scores["b"]) == pytest.approx([0.01 / 0.05, 1.0])
    # The largest weight of each layer is kept, even in a layer of small weights.
    masks = masks_of(scores, 2 / 6, "global")
    assert masks["a"].tolist() == [True, False, False, False] and masks["b"].tolist() == [False, True]


def test_equal_weights_have_lamp_scores_in_file_order():
    """So masks of equal weights are nested, however many there are."""
    weights = np.random.default_rng(0).integers(1, 4, 1000).astype(np.float32)
    (scores,) = lamp_scores(weights)
    assert all((np.diff(scores[weights == value]) > 0).all() for value in (1, 2, 3))


def lamp_scores(*layers: np.ndarray) -> list[np.ndarray]:
    known = Known({str(number): array for number, array in enumerate(layers)}, Streams(("prune", 1)))
    return list(CRITERIA["lamp"].score(known).values())


@pytest.mark.parametrize("setting", [*GRADIENT_SETTINGS, "precision"])
def test_settings_of_gradients_are_in_the_fingerprint(setting: str) -> None:
    """Batches of the criterion are those of retraining."""
    other = {
        "batch_size": 16, "accumulate": 2, "drop_last": True, "dropout": 0.1, "label_smoothing": 0.1,
        "shuffle_ties": True, "precision": "fp32",
    }[setting]  # fmt: skip
    study = study_of(resolve(mapping(Path("anywhere"), prune={"criterion": "gradient_magnitude"})))
    retrain = study.config.retrain.model_copy(update={setting: other})
    changed = replace(study, config=study.config.model_copy(update={"retrain": retrain}))
    first, second = (pack(each, "prune", 1, 2, 0.5)[0].recipe for each in (study, changed))
    assert first != second


def test_a_tiny_layer_does_not_underflow_in_lamp():
    scores = CRITERIA["lamp"].score(Known({"a": np.full(5, 1e-30, np.float32) * np.arange(1, 6)}, STREAMS))["a"]
    assert np.all(np.diff(scores) > 0) and scores[-1] == 0.0


def test_random_masks_are_nested_and_know_no_weights(known):
    other = Known({name: array + 1 for name, array in known.weights.items()}, STREAMS)
    draw = CRITERIA["random"].score
    few, many = (masks_of(draw(each), density, "uniform") for each, density in ((known, 0.1), (other, 0.4)))
    assert all((few[name] <= many[name]).all() for name in SHAPES)
    another = masks_of(draw(Known(known.weights, Streams(("prune", 2)))), 0.1, "uniform")
    assert any((few[name] != another[name]).any() for name in SHAPES)


def test_gradient_magnitude_is_the_product(known):
    scores = CRITERIA["gradient_magnitude"].score(known)
    np.testing.assert_allclose(scores["stem"], np.abs(known.weights["stem"] * known.gradients["stem"]))
    with pytest.raises(UserError, match="needs gradients"):
        CRITERIA["gradient_magnitude"].score(Known(known.weights, STREAMS))


def test_rounds_end_at_the_density():
    assert densities(0.05, 1) == [0.05]
    assert densities(0.25, 2) == [0.5, 0.25]
    assert densities(0.1, 7)[-1] == 0.1


@pytest.mark.parametrize(
    ("prune", "said"),
    [
        ({"criterion": "lamp"}, "lamp does not support allocation uniform; use global"),
        ({"rounds": 3}, "3 rounds of criterion magnitude remove the same weights as one"),
        ({"epochs": 3}, "3 epochs between rounds need `rounds` of at least 2"),
        ({"criterion": "magnitud"}, "unknown criterion 'magnitud'; did you mean 'magnitude'"),
    ],
)
def test_what_makes_no_sense_is_refused(prune, said):
    with pytest.raises(UserError, match=said):
        resolve(mapping(Path("anywhere"), prune=prune))


def test_fingerprints_tell_criteria_apart_and_keep_the_papers():
    def recipe(**prune):
        return pack(study_of(resolve(mapping(Path("anywhere"), prune=prune))), "prune", 1, 2, 0.5)[0]

    plain = recipe()
    assert plain.recipe == {
        "stage": "prune", "version": 1, "model": "preresnet-8x0.25", "density": 0.5, "allocation": "uniform",
    }  # fmt: skip
    assert set(plain.inputs) == {"dense"}
    choices = [
        {"criterion": "random"}, {"criterion": "lamp", "allocation": "global"}, {"allocation": "erk"},
        {"criterion": "gradient_magnitude"}, {"criterion": "gradient_magnitude", "rounds": 2},
        {"rounds": 2, "epochs": 1}, {"rounds": 3, "epochs": 1}, {"rounds": 2, "epochs": 2},
        {"criterion": "gradient_magnitude", "rounds": 2, "epochs": 1},
    ]  # fmt: skip
    recipes = [plain.recipe, *(recipe(**choice).recipe for choice in choices)]
    assert all(first != second for place, first in enumerate(recipes) for second in recipes[:place])
    assert set(recipe(criterion="gradient_magnitude").inputs) == {"dense", "data"}


def test_a_study_prunes_by_gradients_in_rounds(tmp_path):
    """The job applies the criterion in rounds; its masks have exact counts and depend on criterion and rounds."""
    settings = config(tmp_path, temperatures=[2], densities=[0.25])
    run_to(settings, "prune")
    before = products(settings, "prune")[0]
    by_magnitude = split_masks(read_arrays(before.outputs[-1]))[1]
    found = {}
    for rounds in (1, 2):
        prune = {"criterion": "gradient_magnitude", "allocation": "global", "rounds": rounds, "gradient_batches": 2}
        changed = config(tmp_path, temperatures=[2], densities=[0.25], prune=prune)
        assert run(changed, "prune").computed == 1, NAME
        product = products(changed, "prune")[0]
        found[rounds] = split_masks(read_arrays(product.outputs[-1]))[1]
        counts = read_json(product.outputs[0])["sparsity"]
        assert counts["kept"] == counts["total"] - removed_count(counts["total"], 0.25)
    assert all(any((first[name] != second[name]).any() for name in first)
               for first, second in ((found[1], found[2]), (found[1], by_magnitude)))  # fmt: skip


def test_a_single_file_is_pruned_alike(tmp_path):
    """The command ``prune`` computes the same masks as a study, for criteria without gradients."""
    network = families.build("preresnet-8x0.25", classes=10, channels=1, image_size=8)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    write_arrays(tmp_path / "dense.safetensors", weights, {})
    out = tmp_path / "pruned.safetensors"
    counts = prune_file(tmp_path / "dense.safetensors", "preresnet-8x0.25", 0.2, "erk", out, "random", seed=3)
    assert counts["kept"] == counts["total"] - removed_count(counts["total"], 0.2)
    prunable = {name: weights[name] for name in families.prunable(network)}
    expected = masks_of(CRITERIA["random"].score(Known(prunable, Streams(("prune", 3)))), 0.2, "erk")
    found = split_masks(read_arrays(out))[1]
    assert all((found[name] == mask).all() for name, mask in expected.items())
    with pytest.raises(UserError, match="lamp does not support allocation uniform"):
        prune_file(tmp_path / "dense.safetensors", "preresnet-8x0.25", 0.2, "uniform", out, "lamp")


def test_a_single_file_of_a_narrow_network_is_pruned(tmp_path):
    """Its layers have fewer channels than the image has colours."""
    network = families.build("preresnet-8x0.125", classes=10, channels=3, image_size=32)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    write_arrays(tmp_path / "dense.safetensors", weights, {})
    counts = prune_file(tmp_path / "dense.safetensors", "preresnet-8x0.125", 0.5, "uniform", tmp_path / "out", "random")
    assert counts["kept"] == counts["total"] - removed_count(counts["total"], 0.5)
    for criterion, said in (
        ("smallest", "unknown criterion 'smallest'"),
        ("gradient_magnitude", "needs training data"),
    ):
        with pytest.raises(UserError, match=said):
            prune_file(tmp_path / "dense.safetensors", "preresnet-8x0.125", 0.5, "uniform", tmp_path / "out", criterion)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="gives a a score that is not a number"):
        masks_of({"a": np.array([np.nan, 1, 2, 3])}, 0.5, "uniform")


def test_the_largest_remainders_are_rounded_up() -> None:
    sizes = dict.fromkeys("abc", 10)
    assert _whole({"a": 1.1, "b": 2.2, "c": 5.7}, sizes, 9) == {"a": 1, "b": 2, "c": 6}
    assert _whole({"a": 5.6, "b": 2.2, "c": 1.2}, sizes, 9) == {"a": 6, "b": 2, "c": 1}
