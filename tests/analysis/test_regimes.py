"""Thresholds, labels and boundary curves."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from three_regime.analysis import figure2, regimes, seed_means
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return seed_means.grid(figure2.as_cells(figure2.load()))


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return regimes.drawn_labels()


def grid(lmc, cka=0.98, temperatures=None, seeds=3, noise=0.0, knob="epochs", density=0.05) -> pd.DataFrame:
    """One density column (hot to cold for epochs) of cells with seed means `lmc` ± `noise`."""
    lmc = np.asarray(lmc, float)
    temperatures = np.arange(1, len(lmc) + 1) * 10.0 if temperatures is None else np.asarray(temperatures, float)
    offsets = noise * (np.arange(seeds) - (seeds - 1) / 2)
    tables = [
        pd.DataFrame({"temperature": temperatures, "lmc": lmc + offset, "cka_softmax": cka, "dense_seed": seed})
        for seed, offset in enumerate(offsets)
    ]
    fixed = {"study": "s", "dataset": "d", "model": "m", "knob": knob, "density": density, "origin": "computed"}
    return seed_means.grid(pd.concat(tables, ignore_index=True).assign(**fixed))


def test_drawn_regimes_of_figure_2_have_the_known_sizes(drawn):
    assert drawn["regime"].value_counts().to_dict() == {"II-A": 74, "I": 36, "II-B": 34}


def test_the_lmc_threshold_fits_the_drawn_regime_one(published, drawn):
    fit = regimes.fit_lmc_threshold(published, drawn)
    assert fit.lower < Thresholds().lmc <= fit.upper
    assert fit.lower < fit.threshold < fit.upper
    assert fit.agreement == pytest.approx(0.95, abs=0.005)
    assert fit.balanced_accuracy == pytest.approx(0.96, abs=0.005)
    assert fit.majority == 0.75 and fit.cells == 144


def test_near_zero_is_a_worse_threshold_than_the_fitted_one(published, drawn):
    table = regimes.sensitivity(published, drawn).set_index("threshold")
    assert table.index.min() == -0.3 and table.index.max() == -0.005 and len(table) == 60
    assert table.loc[-0.12, "agreement"] == pytest.approx(0.95, abs=0.005)
    assert table.loc[-0.12, "balanced_accuracy"] == pytest.approx(0.96, abs=0.005)
    assert table.loc[-0.05, "agreement"] == pytest.approx(0.88, abs=0.005)
    assert table["balanced_accuracy"].max() == table.loc[-0.12, "balanced_accuracy"]
    assert table.loc[-0.005, "agreement"] < 0.75


def test_a_cell_exactly_on_a_threshold_is_connected():
    table = grid([-0.2, -0.1, 0.0], seeds=1)
    truth = pd.DataFrame({"temperature": table["temperature"], "density": 0.05, "regime": ["I", "II-A", "II-A"]})
    found = regimes.sensitivity(table, truth, (-0.2, -0.1, 0.0)).set_index("threshold")
    assert list(found) == ["agreement", "balanced_accuracy", "cells"]
    assert found["agreement"].tolist() == pytest.approx([2 / 3, 1, 2 / 3])
    assert found["balanced_accuracy"].tolist() == pytest.approx([0.5, 1, 0.75])
    assert set(found["cells"]) == {3}


def test_the_cka_threshold_is_fitted_to_connected_cells_alone(published, drawn):
    """Cells that are connected by LMC and not drawn as Regime I: neither condition alone gives this number."""
    fit = regimes.fit_cka_threshold(published, drawn, Thresholds().lmc)
    table = published.merge(drawn, on=["temperature", "density"])
    both = table.query("lmc >= @Thresholds().lmc and regime != 'I'")
    assert (
        fit.cells
        == len(both)
        < min(len(table.query("lmc >= @Thresholds().lmc")), len(table.query("regime != 'I'")) + 1)
    )
    exactly = regimes.fit_cka_threshold(published, drawn, both["lmc"].min())
    assert exactly.cells == fit.cells, "a cell exactly on the LMC threshold is connected"


def test_cka_follows_the_drawn_line_hardly_above_majority(published, drawn):
    fit = regimes.fit_cka_threshold(published, drawn, Thresholds().lmc)
    assert fit.majority < fit.agreement < fit.majority + 0.1
    connected = published.merge(drawn, on=["temperature", "density"]).query("regime != 'I'")
    truth = connected["regime"] == "II-B"
    assert regimes.agreement(connected["cka_softmax"] >= 0.99, truth) == pytest.approx(0.80, abs=0.015)
    assert regimes.majority_share(truth) == pytest.approx(0.685, abs=0.001)


def test_fit_recovers_a_clean_threshold_and_its_plateau():
    lmc = np.array([-0.5, -0.4, -0.2, -0.1, 0.0])
    table = grid(lmc)
    truth = pd.DataFrame({"temperature": table["temperature"], "density": 0.05, "regime": ["I"] * 3 + ["II-A"] * 2})
    fit = regimes.fit_lmc_threshold(table, truth)
    assert (fit.lower, fit.upper, fit.threshold) == pytest.approx((-0.2, -0.1, -0.15))
    assert fit.agreement == fit.balanced_accuracy == 1


def test_fit_needs_both_classes():
    table = grid([-0.5, -0.4])
    truth = pd.DataFrame({"temperature": table["temperature"], "density": 0.05, "regime": "I"})
    with pytest.raises(ValueError, match="both classes"):
        regimes.fit_lmc_threshold(table, truth)


def test_balanced_accuracy_of_a_bare_majority_is_half():
    truth = [True] * 9 + [False]
    assert regimes.balanced_accuracy([True] * 10, truth) == 0.5
    assert regimes.agreement([True] * 10, truth) == regimes.majority_share(truth) == 0.9
    assert np.isnan(regimes.balanced_accuracy([], [])) and np.isnan(regimes.majority_share([]))


def test_labels_follow_the_thresholds_at_their_very_value():
    table = grid([-0.13, -0.12, 0.0, 0.0], cka=[0.999, 0.5, 0.99, 0.9899], seeds=1)
    assert regimes.label(table, Thresholds())["regime"].tolist() == ["I", "II-A", "II-B", "II-A"]


def test_confidence_is_the_t_probability_and_decides():
    table = grid([-0.14, -0.6, -0.11], noise=0.02, cka=0.95)
    labels = regimes.label(table, Thresholds())
    se = 0.02 / np.sqrt(3)
    assert labels["confidence"][0] == pytest.approx(stats.t.cdf(0.02 / se, 2))
    assert labels["confidence"].between(0.5, 1).all()
    assert labels["decided"].tolist() == [False, True, False]
    assert labels["regime"].tolist() == ["I", "I", "II-A"]
    assert regimes.label(table, Thresholds(), level=0.6)["decided"].all()


def test_confidence_is_the_weaker_of_two_decisions():
    table = grid([-0.01], cka=0.9901, noise=0.02)
    table["cka_softmax_se"] = 0.01
    labels = regimes.label(table, Thresholds())
    assert labels["confidence"][0] == pytest.approx(stats.t.cdf(0.01, 2))
    assert regimes.label(table.assign(lmc=-0.5), Thresholds())["confidence"][0] > 0.99


def at_error(errors, dataset="cifar10", seeds=(0.0,), density=0.05) -> pd.DataFrame:
    """Connected, similar cells whose test errors are `errors`, shifted by `seeds`."""
    tables = [
        pd.DataFrame({"temperature": np.arange(len(errors)) + 1.0, "test_error": np.array(errors) + shift})
        .assign(dense_seed=seed, lmc=-0.001, cka_softmax=0.999)
        for seed, shift in enumerate(seeds)
    ]  # fmt: skip
    fixed = {"study": "s", "dataset": dataset, "model": "m", "knob": "epochs", "density": density, "origin": "computed"}
    return seed_means.grid(pd.concat(tables, ignore_index=True).assign(**fixed))


@pytest.mark.parametrize(
    ("dataset", "errors", "chance"),
    [
        ("cifar10", [0.9, 0.895, 0.88, 0.3], [True, True, False, False]),
        ("cifar100", [0.99, 0.985, 0.9], [True, True, False]),
        ("svhn", [0.804, 0.79], [True, False]),  # always the commonest digit
        ("wmt14-de-en", [1.0, 0.995, 0.9], [True, True, False]),
        ("elsewhere", [0.9, 1.0], [False, False]),
    ],
)
def test_chance_is_the_best_constant_answer_of_the_data_set(dataset, errors, chance):
    table = at_error(errors, dataset)
    assert regimes.at_chance(table).tolist() == chance
    assert (regimes.label(table, Thresholds())["regime"] == regimes.CHANCE).tolist() == chance


def test_a_cell_not_told_from_chance_has_no_regime():
    table = at_error([0.88, 0.80], seeds=(-0.02, 0.0, 0.02))
    bound = stats.t.ppf(0.95, 2) * 0.02 / np.sqrt(3)
    assert 0.88 + bound > 0.9 > 0.80 + bound
    labels = regimes.label(table, Thresholds())
    assert labels["regime"].tolist() == ["chance", "II-B"]
    assert labels["decided"].tolist() == [False, True] and np.isnan(labels["confidence"][0])
    quiet = at_error([0.88, 0.90], seeds=(-0.001, 0.0, 0.001))
    assert regimes.label(quiet, Thresholds())["regime"].tolist() == ["II-B", "chance"]
    assert regimes.at_chance(at_error([0.9], seeds=(0.0, 0.0, 0.0))).all(), "all seeds collapsed"


def test_a_collapsed_cell_makes_no_other_one_collapsed():
    """Two seeds, one collapsed at the last temperature: the pooled standard error says nothing about the others."""
    table = pd.concat(
        [at_error([error], seeds=(0.0, shift)).assign(temperature=temperature)
         for temperature, error, shift in ((10, 0.10, 0.0), (40, 0.09, 0.0), (160, 0.30, 0.60))]
    )  # fmt: skip
    pooled = table["test_error_se"].max()
    table = table.assign(test_error_se=pooled).reset_index(drop=True)
    assert 0.09 + stats.t.ppf(0.95, 1) * pooled > 0.9
    assert regimes.at_chance(table).tolist() == [False, False, True]


def test_one_collapsed_network_leaves_others_their_regimes():
    """Of two dense seeds, whose pooled spread is that of the collapsed one, also where the others are poor."""
    errors = {5: (0.90, 0.58), 15: (0.502, 0.504), 30: (0.582, 0.584)}
    rows = [
        {"temperature": float(t), "dense_seed": seed, "test_error": error, "lmc": -0.001, "cka_softmax": 0.999}
        for t, pair in errors.items()
        for seed, error in enumerate(pair, 1)
    ]
    fixed = {"study": "s", "dataset": "cifar10", "model": "m", "knob": "epochs", "density": 0.05, "origin": "computed"}
    table = seed_means.grid(pd.DataFrame(rows).assign(**fixed))
    assert (table["test_error"] + stats.t.ppf(0.95, 1) * table["test_error_se"] > 0.9).all()
    assert regimes.label(table, Thresholds())["regime"].tolist() == ["chance", "II-B", "II-B"]


def test_no_border_passes_a_cell_at_chance():
    table = at_error([0.2, 0.2, 0.9]).assign(lmc=[0.0, -0.2, 0.0])
    assert regimes.boundaries(table, Thresholds())["temperature_index"].tolist() == pytest.approx([0.6])


def test_a_label_names_the_seed_that_dominates_its_measure():
    table = grid([-0.5, 0.0, 0.0], noise=0.01)
    table.loc[[0, 2], "cka_softmax_one_seed"] = 1
    table.loc[1, "lmc_one_seed"] = 2
    found = regimes.label(table, Thresholds())["one_seed"]
    assert np.isnan(found[0]), "its CKA decides nothing"
    assert found[1:].tolist() == [2, 1]


def test_without_an_error_the_margin_decides():
    table = grid([-0.13, -0.15, -0.11, 0.0, 0.0], cka=[0.5, 0.5, 0.5, 0.9905, 0.995], seeds=1)
    labels = regimes.label(table, Thresholds())
    assert labels["confidence"].isna().all()
    assert labels["decided"].tolist() == [False, True, False, False, True]


def test_a_single_seed_beside_cells_of_several_is_not_decided():
    """Its distance from the threshold is no more than theirs, which their spread leaves open."""
    several = grid([-0.15, -0.15], noise=0.1)
    assert not regimes.label(several, Thresholds())["decided"].any()
    single = several.assign(lmc_se=several["lmc_se"].where(several["temperature"] < several["temperature"].max()))
    assert regimes.label(single, Thresholds())["decided"].tolist() == [False, False]
    alone = several.assign(lmc_se=np.nan, cka_softmax_se=np.nan)
    assert regimes.label(alone, Thresholds())["decided"].all()


def test_missing_values_have_a_label_only_by_lmc_alone():
    table = grid([np.nan, -0.5, 0.0], cka=[0.99, np.nan, np.nan], noise=0.01)
    labels = regimes.label(table, Thresholds())
    assert labels["regime"].isna().tolist() == [True, False, True]
    assert labels["decided"].tolist() == [False, True, False]


def test_identical_seeds_are_certain():
    labels = regimes.label(grid([-0.5, -0.12, 0.0], cka=0.5, noise=0.0), Thresholds(lmc=-0.12))
    assert labels["confidence"].tolist() == pytest.approx([1, 0.5, 1])


def test_a_boundary_interpolates_in_index():
    crossing = regimes.boundary(grid([0.0, -0.1, -0.3], temperatures=[10, 20, 60]), "lmc", -0.15)
    assert crossing["temperature_index"].tolist() == pytest.approx([1.25])
    assert crossing["temperature"].tolist() == pytest.approx([30])


def test_boundary_orders_several_crossings_from_hot_to_cold():
    lmc = [0.0, -0.2, 0.0]
    colder_is_more_epochs = regimes.boundary(grid(lmc, temperatures=[10, 20, 30]), "lmc", -0.1)
    assert colder_is_more_epochs["temperature"].tolist() == pytest.approx([15, 25])
    assert colder_is_more_epochs["crossing"].tolist() == [0, 1]
    larger_is_hotter = regimes.boundary(grid(lmc, temperatures=[0.1, 0.2, 0.3], knob="sam_rho"), "lmc", -0.1)
    assert larger_is_hotter["temperature"].tolist() == pytest.approx([0.25, 0.15])
    assert larger_is_hotter["temperature_index"].tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize("lmc", [[0.0, -0.01, -0.02], [-0.5, -0.6, -0.7], [0.0, np.nan, -0.5], [-0.5], [np.nan]])
def test_no_boundary_without_a_crossing_between_neighbours(lmc):
    assert regimes.boundary(grid(lmc), "lmc", -0.1).empty


def test_both_boundaries_and_no_cka_boundary_inside_regime_one(published):
    curves = regimes.boundaries(published, Thresholds())
    first = curves[curves["boundary"] == "lmc"].set_index("density")
    assert sorted(first.index) == [0.05, 0.06, 0.07, 0.08, 0.10]
    drawn = figure2.drawn_boundaries().set_index("density")["regime_one_above"]
    for density in (0.06, 0.07, 0.08, 0.10):
        assert abs(first.loc[density, "temperature"] - drawn[density]) < 15
    assert set(curves.loc[curves["boundary"] == "cka", "density"]) == {0.40, 0.80}
    poor = grid([-0.5, -0.5], cka=[0.9, 0.999])
    assert regimes.boundaries(poor, Thresholds()).empty


def test_boundary_refuses_to_mix_studies():
    both = pd.concat([grid([0, -1]), grid([0, -1]).assign(study="t")])
    with pytest.raises(ValueError, match="one study"):
        regimes.boundary(both, "lmc", -0.1)


@pytest.mark.parametrize(("values", "key"), [({"lmc": 0.1}, "lmc"), ({"lmc": -2}, "lmc"), ({"cka": 1.5}, "cka")])
def test_thresholds_out_of_range_are_refused_by_name(values, key):
    with pytest.raises(UserError, match=f"thresholds.{key}"):
        Thresholds(**values)


def test_of_equally_good_plateaus_the_widest_is_taken():
    """Below: 0 and 4; thresholds up to 1 and up to 9 are equally good, and the second plateau is wider."""
    values, below = np.array([0.0, 1.0, 4.0, 9.0]), np.array([True, False, True, False])
    fit = regimes._fit(values, below)
    assert (fit.lower, fit.upper) == (4.0, 9.0)
    fit = regimes._fit(-values[::-1], ~below[::-1])
    assert (fit.lower, fit.upper) == (-9.0, -4.0)
