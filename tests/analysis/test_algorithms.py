"""Algorithms 1, 2 and 2.1, their baselines, and the case studies built on them."""

import numpy as np
import pandas as pd
import pytest
import smooth_plane

from three_regime.analysis import algorithms, case_studies, figure2, regimes, seed_means
from three_regime.analysis.algorithms import Column
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError

THRESHOLD = -0.12
NAN = float("nan")


def column(lmc, cka=None, dense=None, test=None) -> Column:
    n = len(lmc)
    arrays = [
        np.asarray(default if values is None else values, float)
        for values, default in ((lmc, None), (cka, np.full(n, 0.9)), (dense, np.full(n, 0.1)), (test, np.full(n, 0.2)))
    ]
    return Column(0.05, ("s",) * n, np.arange(1, n + 1) * 10.0, *arrays)


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return figure2.as_cells(figure2.load())


@pytest.fixture(scope="module")
def published(cells) -> pd.DataFrame:
    return seed_means.grid(cells)


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return regimes.drawn_labels()


def regret(table: pd.DataFrame, algorithm: str, start: str = "") -> float:
    """Mean regret in percentage points."""
    return 100 * table.set_index(["algorithm", "start"]).loc[(algorithm, start), "mean_regret"]


# Algorithm 1


def test_algorithm_1_leaves_regime_one_to_the_hot_side():
    choice = algorithms.algorithm_1(column([0, 0, -0.2, -0.5, -0.6]), THRESHOLD, start=4)
    assert (choice.index, choice.temperature) == (1, 20.0)
    assert choice.path == (4, 3, 2, 1) and choice.probes == 4


def test_algorithm_1_gets_colder_while_outputs_grow_more_similar():
    choice = algorithms.algorithm_1(column([0, 0, 0, 0], cka=[0.90, 0.95, 0.97, 0.96]), THRESHOLD, start=0)
    assert choice.index == 2
    assert choice.path == (0, 1, 2, 3), "the refused neighbour was measured too"


def test_algorithm_1_never_steps_into_regime_one():
    choice = algorithms.algorithm_1(column([0, 0, -0.5], cka=[0.9, 0.95, 0.99]), THRESHOLD, start=0)
    assert choice.index == 1 and choice.probes == 3


def test_algorithm_1_needs_a_real_rise():
    assert algorithms.algorithm_1(column([0, 0], cka=[0.95, 0.95]), THRESHOLD, start=0).index == 0


@pytest.mark.parametrize(("lmc", "start", "end"), [([-0.5, -0.5], 1, 0), ([0, 0], 1, 1), ([-0.5], 0, 0), ([0], 0, 0)])
def test_algorithm_1_stops_at_the_edge_of_the_grid(lmc, start, end):
    assert algorithms.algorithm_1(column(lmc), THRESHOLD, start).index == end


def test_algorithm_1_stops_unpaid_at_a_missing_neighbour():
    hotter = algorithms.algorithm_1(column([0, NAN, -0.5, -0.5]), THRESHOLD, start=3)
    assert hotter.index == 2 and hotter.probes == 2
    colder = algorithms.algorithm_1(column([0, NAN, 0], cka=[0.9, 0.95, 0.99]), THRESHOLD, start=0)
    assert colder.index == 0 and colder.probes == 1
    no_cka = algorithms.algorithm_1(column([0, 0], cka=[0.9, NAN]), THRESHOLD, start=0)
    assert no_cka.index == 0
    nothing = algorithms.algorithm_1(column([NAN, 0]), THRESHOLD, start=0)
    assert nothing.index == 0 and nothing.probes == 0


# Algorithms 2 and 2.1, baselines


def test_algorithm_2_takes_the_lowest_connected_dense_error():
    choice = algorithms.algorithm_2(column([0, 0, -0.5], dense=[0.12, 0.10, 0.08]), THRESHOLD)
    assert choice.index == 1
    assert choice.path == (2, 1) and choice.probes == 2, "the third best dense error needs no probe"


def test_algorithm_2_1_takes_the_highest_cka_outside_regime_one():
    choice = algorithms.algorithm_2_1(column([0, 0, -0.5], cka=[0.97, 0.95, 0.99]), THRESHOLD)
    assert choice.index == 0 and choice.probes == 3


@pytest.mark.parametrize("algorithm", [algorithms.algorithm_2, algorithms.algorithm_2_1])
def test_ties_go_to_the_colder_none_connected_to_highest_lmc(algorithm):
    assert algorithm(column([0, 0, 0]), THRESHOLD).index == 2
    assert algorithm(column([-0.5, -0.3, -0.3, -0.4]), THRESHOLD).index == 2
    assert algorithm(column([-0.5, -0.3, -0.4]), THRESHOLD).probes == 3


@pytest.mark.parametrize("algorithm", [algorithms.algorithm_2, algorithms.algorithm_2_1])
def test_cells_without_measurements_are_never_chosen(algorithm):
    missing = column([0, NAN, -0.5], cka=[0.9, 0.99, 0.99], dense=[0.2, 0.1, 0.1])
    assert algorithm(missing, THRESHOLD).index == 0
    assert algorithm(column([NAN, NAN]), THRESHOLD) is None


def test_a_better_error_without_lmc_costs_nothing():
    choice = algorithms.algorithm_2(column([0, NAN], dense=[0.2, 0.1]), THRESHOLD)
    assert choice.index == 0 and choice.path == (0,)


def test_baselines():
    table = column([0, 0, 0], dense=[0.1, 0.1, NAN], test=[0.3, 0.2, 0.2])
    assert algorithms.lowest_dense_error(table).index == 1
    assert algorithms.oracle(table).index == 2
    assert algorithms.at_temperature(table, 10).index == 0
    assert algorithms.at_temperature(table, 999) is None
    empty = column([0], dense=[NAN], test=[NAN])
    assert algorithms.lowest_dense_error(empty) is None and algorithms.oracle(empty) is None


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equal length"):
        Column(0.05, ("s",), np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2))


# The published figure


def test_published_regrets_meet_the_stated_bounds(published, drawn):
    fitted = regimes.fit_lmc_threshold(published, drawn).threshold
    for threshold in (Thresholds().lmc, fitted):
        table = algorithms.summary(algorithms.evaluate(published, Thresholds(lmc=threshold)))
        assert set(table["densities"]) == {9}
        assert regret(table, "algorithm 1", "160") == pytest.approx(0.233, abs=0.005)
        assert regret(table, "algorithm 1", "160") <= 0.35
        assert regret(table, "algorithm 2.1") == pytest.approx(0.186, abs=0.005)
        assert regret(table, "algorithm 2.1") <= 0.20
        assert regret(table, "default temperature") == pytest.approx(1.53, abs=0.005)
        assert regret(table, "oracle") == 0


def test_algorithm_1_reaches_good_cells_from_every_start(published):
    table = algorithms.summary(algorithms.evaluate(published, Thresholds()))
    starts = table[(table["algorithm"] == "algorithm 1") & (table["start"] != "all")]
    assert len(starts) == 16
    assert (100 * starts["mean_regret"] <= 0.36).all()
    assert regret(table, "algorithm 1", "all") == pytest.approx(100 * starts["mean_regret"].mean())
    assert (table["worst_regret"] >= table["mean_regret"]).all()


def test_regret_with_one_density_left_out_stays_small(published, drawn):
    left_out = algorithms.leave_one_density_out(published, drawn, Thresholds())
    refitted = left_out.groupby("density")["threshold"].first()
    assert len(refitted) == 9 and refitted.nunique() > 1 and refitted.between(-0.15, -0.08).all()
    table = algorithms.summary(left_out)
    assert regret(table, "algorithm 1", "160") < 0.5 and regret(table, "algorithm 2.1") < 0.3


def test_a_refitted_threshold_must_be_a_barrier():
    """A fit in the middle of -0.1 and 0.1 is 0, which is no barrier: the study's own threshold stays."""
    both = pd.concat(
        [make_grid([-0.1, 0.1], density=density, test_error=0.2, cka_softmax=0.9) for density in (0.05, 0.1)]
    )
    labels = pd.DataFrame(
        {"temperature": [10.0, 20.0] * 2, "density": [0.05] * 2 + [0.1] * 2, "regime": ["I", "II-A"] * 2}
    )
    assert regimes.fit_lmc_threshold(both, labels).threshold == 0
    left_out = algorithms.leave_one_density_out(both, labels, Thresholds(lmc=-0.07))
    assert set(left_out["threshold"]) == {-0.07}
    assert set(left_out["density"]) == {0.05, 0.1} and left_out.index.is_unique


def test_sensitivity_joins_the_fit_with_the_regrets(published, drawn):
    table = algorithms.sensitivity(published, drawn, (-0.12, -0.05)).set_index("threshold")
    assert 100 * table.loc[-0.12, "algorithm_1_cold"] == pytest.approx(0.233, abs=0.005)
    assert table.loc[-0.05, "algorithm_1_cold"] > table.loc[-0.12, "algorithm_1_cold"]
    assert table.loc[-0.05, "agreement"] < table.loc[-0.12, "agreement"]
    assert algorithms.sensitivity(published, None, (-0.12,))["agreement"].isna().all()


def test_published_dense_error_is_labelled_as_a_proxy(published):
    table = algorithms.evaluate(published, Thresholds())
    assert set(table["dense_error"]) == {"proxy"}
    at_80 = table[(table["density"] == 0.80) & (table["algorithm"] == "lowest dense error")]
    assert at_80["regret"].tolist() == [0]
    measured = algorithms.evaluate(published.assign(dense_test_error=0.08), Thresholds())
    assert set(measured["dense_error"]) == {"measured"}


# Tables


def make_grid(lmc, knob="epochs", study="s", temperatures=None, **columns) -> pd.DataFrame:
    temperatures = np.arange(1, len(lmc) + 1) * 10.0 if temperatures is None else temperatures
    table = pd.DataFrame({"temperature": temperatures, "lmc": lmc})
    fixed = {"study": study, "dataset": "cifar10", "model": "m", "knob": knob, "density": 0.05, "origin": "computed"}
    return seed_means.grid(table.assign(**({"dense_seed": 1} | fixed | columns)))


def test_cells_are_decided_seed_by_seed(cells):
    two = pd.concat([cells.assign(dense_seed=1), cells.assign(dense_seed=2, test_error=cells["test_error"] + 0.01)])
    table = algorithms.evaluate(two, Thresholds())
    assert set(table["dense_seed"]) == {1, 2}
    first, second = (table[table["dense_seed"] == seed].reset_index(drop=True) for seed in (1, 2))
    np.testing.assert_allclose(first["regret"], second["regret"], atol=1e-12)
    np.testing.assert_allclose(first["test_error"] + 0.01, second["test_error"])


def test_colder_means_a_smaller_radius_for_sam():
    table = make_grid([-0.5, 0.0, 0.0], knob="sam_rho", temperatures=[0.1, 0.2, 0.3], test_error=[0.3, 0.2, 0.25])
    result = algorithms.evaluate(table, Thresholds())
    cold = result[(result["algorithm"] == "algorithm 1") & (result["start"] == 0.1)].iloc[0]
    assert cold["temperature"] == 0.2 and cold["regret"] == 0
    assert result.set_index("algorithm").loc["default temperature", "temperature"] == 0.1


EVALUATION = [
    "study", "knob", "algorithm", "start", "density", "temperature", "test_error", "oracle_error", "regret", "probes",
    "dense_error",
]  # fmt: skip


def test_the_columns_of_an_evaluation_and_its_summary():
    cells = make_grid([0.0, -0.5, 0.0], test_error=[0.3, 0.1, 0.2], dense_test_error=[0.3, 0.2, 0.1], cka_softmax=0.9)
    table = algorithms.evaluate(cells, Thresholds())
    assert list(table) == EVALUATION
    assert list(algorithms.evaluate(make_grid([NAN]), Thresholds())) == EVALUATION, "whether or not there is a row"
    chosen = table.set_index("algorithm").loc["lowest dense error"]
    assert chosen[["study", "knob", "density", "temperature", "dense_error"]].tolist() == [
        "s",
        "epochs",
        0.05,
        30,
        "measured",
    ]
    assert chosen[["test_error", "oracle_error", "regret"]].tolist() == pytest.approx([0.2, 0.1, 0.1])
    summary = algorithms.summary(table)
    assert list(summary) == [
        "study", "algorithm", "start", "mean_regret", "worst_regret", "mean_test_error", "mean_probes", "densities",
    ]  # fmt: skip
    one = table[(table["algorithm"] == "algorithm 1")]
    every = summary.set_index(["algorithm", "start"]).loc[("algorithm 1", "all")]
    assert every["mean_regret"] == pytest.approx(one["regret"].mean()) and every["worst_regret"] == one["regret"].max()
    assert every["mean_test_error"] == pytest.approx(one["test_error"].mean())
    assert every["mean_probes"] == pytest.approx(one["probes"].mean()) and every["densities"] == 1
    assert summary.set_index("algorithm").loc["lowest dense error", "start"] == ""


def test_usual_temperature_of_each_knob():
    assert algorithms.usual_temperature(make_grid([0, 0], temperatures=[40, 160])) == 160
    assert algorithms.usual_temperature(make_grid([0, 0], knob="batch_size", temperatures=[16, 512])) == 64
    text = make_grid([0, 0], knob="learning_rate", temperatures=[0.0014, 0.0007], dataset="multi30k-de-en")
    assert algorithms.usual_temperature(text) == 0.0007
    without_64 = algorithms.evaluate(
        make_grid([0, 0], knob="batch_size", temperatures=[16, 512], test_error=0.1, cka_softmax=0.9), Thresholds()
    )
    assert "default temperature" not in set(without_64["algorithm"])


def test_partial_grids_are_evaluated_on_what_exists():
    one = algorithms.evaluate(make_grid([-0.5], test_error=0.3), Thresholds())
    assert set(one["algorithm"]) == {"algorithm 1", "default temperature", "oracle"}
    no_lmc = algorithms.evaluate(make_grid([NAN, NAN], test_error=[0.3, 0.2]), Thresholds())
    assert set(no_lmc["algorithm"]) == {"default temperature", "oracle"}
    chosen_not_retrained = algorithms.evaluate(make_grid([0.0, -0.5], test_error=[NAN, 0.2]), Thresholds())
    from_cold = chosen_not_retrained[chosen_not_retrained["start"] == 20].iloc[0]
    assert from_cold["temperature"] == 10 and np.isnan(from_cold["regret"])
    assert algorithms.summary(chosen_not_retrained)["mean_regret"].notna().all()
    assert algorithms.summary(algorithms.evaluate(make_grid([NAN]), Thresholds())).empty


# Case studies


def test_family_chooses_across_studies():
    epochs = make_grid([0.0, -0.5], study="epochs", test_error=[0.15, 0.20], dense_test_error=[0.10, 0.08])
    batch = make_grid(
        [0.0, 0.0],
        study="batch",
        knob="batch_size",
        temperatures=[16, 64],
        test_error=[0.13, 0.16],
        dense_test_error=[0.09, 0.11],
        cka_softmax=[0.95, 0.99],
    )
    both = pd.concat([epochs, batch])
    alike = {"epochs": Thresholds(), "batch": Thresholds()}
    table = case_studies.evaluate_family(both, alike).set_index("algorithm")
    assert table.loc["algorithm 2", ["study", "temperature", "regret"]].tolist() == ["batch", 16, 0]
    assert table.loc["algorithm 2.1", ["study", "temperature"]].tolist() == ["batch", 64]
    assert table.loc["lowest dense error", ["study", "temperature"]].tolist() == ["epochs", 20]
    assert table.loc["default temperature", ["study", "temperature"]].tolist() == ["epochs", 20]
    assert table.loc["oracle", "study"] == "batch" and set(table["models"]) == {4}
    assert set(algorithms.summary(table.reset_index())["dataset"]) == {"cifar10"}
    # the best dense model, at LMC -0.5, counts as connected by a threshold of its own study alone
    own = case_studies.evaluate_family(both, alike | {"epochs": Thresholds(lmc=-0.6)}).set_index("algorithm")
    assert own.loc["algorithm 2", ["study", "temperature", "probes"]].tolist() == ["epochs", 20, 1]
    others = case_studies.evaluate_family(both, alike | {"batch": Thresholds(lmc=-0.6)}).set_index("algorithm")
    assert others.loc["algorithm 2", ["study", "temperature"]].tolist() == ["batch", 16]


def test_family_of_two_datasets_is_refused():
    both = pd.concat([make_grid([0.0]), make_grid([0.0], study="t", dataset="svhn")])
    with pytest.raises(UserError, match="cifar10, svhn"):
        case_studies.evaluate_family(both, {})


def test_families_do_not_mix_parts_of_a_dataset():
    clean, noisy = (seed_means.grid(smooth_plane.cells(seeds=(1,)).assign(study=name)) for name in ("clean", "noisy"))
    thresholds = {"clean": Thresholds(), "noisy": Thresholds()}
    together = case_studies.build([clean, noisy], thresholds)["family"]
    assert set(together["dataset"]) == {"digits"} and set(together["models"]) == {16}
    apart = case_studies.build([clean, noisy], thresholds, {"clean": "digits", "noisy": "digits (noisy)"})["family"]
    assert set(apart["dataset"]) == {"digits", "digits (noisy)"} and set(apart["models"]) == {8}


def test_a_part_of_a_dataset_has_the_chance_level_of_the_whole():
    """Neither the rule for cells at chance nor the default batch size depends on what the part is called."""
    grid = make_grid([-0.3, 0.0], knob="batch_size", temperatures=[64, 256], dataset="digits", test_error=[0.3, 0.9],
                     dense_test_error=[0.1, 0.2], cka_softmax=[0.8, 1.0])  # fmt: skip
    thresholds = {str(grid["study"].iloc[0]): Thresholds()}
    whole = case_studies.build([grid], thresholds)["family"]
    part = case_studies.build([grid], thresholds, dict.fromkeys(thresholds, "digits (512 training images)"))["family"]
    assert set(part.pop("dataset")) == {"digits (512 training images)"}
    pd.testing.assert_frame_equal(part, whole.drop(columns="dataset"))
    assert "algorithm 2.1" in set(whole["algorithm"]) and set(whole["temperature"]) == {64}


def test_regrets_are_not_taken_over_different_seeds() -> None:
    """A cell that lacks dense seeds may be chosen, but is not the oracle, and has no regret."""
    tables = [
        pd.DataFrame({"temperature": [10.0, 20.0], "test_error": [0.10 + seed / 100, 0.02], "cka_softmax": [0.9, 0.99]})
        .assign(lmc=0.0, dense_test_error=[0.1, 0.2], dense_seed=seed)
        for seed in (1, 2)
    ]  # fmt: skip
    tables[1] = tables[1].iloc[:1]
    fixed = {"study": "s", "dataset": "cifar10", "model": "m", "knob": "epochs", "density": 0.05, "origin": "computed"}
    table = algorithms.evaluate(seed_means.grid(pd.concat(tables).assign(**fixed)), Thresholds()).set_index("algorithm")
    assert table.loc["oracle", ["temperature", "regret"]].tolist() == [10, 0]
    assert table.loc["algorithm 2.1", "temperature"] == 20 and np.isnan(table.loc["algorithm 2.1", "regret"])


def test_rho_0_is_the_study_that_differs_in_sam_alone() -> None:
    sam = make_grid([0.0, 0.0], study="sam", knob="sam_rho", temperatures=[0.1, 0.2], test_error=[0.2, 0.3])
    adam, plain = (make_grid([0.0, 0.0], study=name, temperatures=[80, 160], test_error=[0.3, error])
                   for name, error in (("adam", 0.25), ("plain", 0.12)))  # fmt: skip
    grids, thresholds = [adam, plain, sam], dict.fromkeys(("adam", "plain", "sam"), Thresholds())
    known, unknown = (case_studies.build(grids, thresholds, plain=plain)["sam"].set_index("method")
                      for plain in ({"sam": "plain"}, None))  # fmt: skip
    assert known.loc["rho 0", "test_error"] == 0.12
    assert unknown.loc["rho 0", "status"] == "not run"


def test_rho_0_of_other_dense_seeds_is_not_compared() -> None:
    sam = make_grid([0.0, 0.0], study="sam", knob="sam_rho", temperatures=[0.1, 0.2], test_error=[0.2, 0.3])
    plain = make_grid([0.0, 0.0], study="plain", temperatures=[80, 160], test_error=[0.3, 0.12])
    for of, status in ((sam["test_error_of_seeds"].iloc[0], "obtained"), ("7+8", "not run")):
        tuned = case_studies.tune_sam(sam, Thresholds(), plain=plain.assign(test_error_of_seeds=of)).set_index("method")
        assert tuned.loc["rho 0", "status"] == status


def test_each_start_of_sam_is_its_own() -> None:
    errors = {"cka_softmax": [0.9, 0.9, 0.9], "test_error": [0.2, 0.15, 0.18]}
    table = make_grid([-0.5, 0.0, 0.0], knob="sam_rho", temperatures=[0.1, 0.2, 0.3], **errors)
    tuned = case_studies.tune_sam(table, Thresholds()).set_index("method")["temperature"]
    assert tuned["algorithm 1 from the largest rho"] == 0.3 and tuned["algorithm 1 from the smallest rho"] == 0.2


def test_sam_tuning_names_what_was_not_run():
    errors = {"test_error": [0.20, 0.15, 0.18], "dense_test_error": [0.08, 0.09, 0.10]}
    table = make_grid([-0.5, 0.0, 0.0], knob="sam_rho", temperatures=[0.1, 0.2, 0.3], cka_softmax=0.9, **errors)
    tuned = case_studies.tune_sam(table, Thresholds()).set_index("method")
    assert tuned.loc["algorithm 1 from the smallest rho", "temperature"] == 0.2
    assert tuned.loc["lowest dense error", "regret"] == pytest.approx(0.05)
    assert tuned.loc[["rho 0", "rho 0.05"], "status"].tolist() == ["not run"] * 2
    plain = make_grid([0.0, 0.0], study="plain", temperatures=[80, 160], test_error=[0.3, 0.22])
    with_plain = case_studies.tune_sam(table, Thresholds(), plain=plain).set_index("method")
    assert with_plain.loc["rho 0", ["status", "test_error"]].tolist() == ["obtained", 0.22]
    assert with_plain.loc["rho 0", "regret"] == pytest.approx(0.07)
    with pytest.raises(UserError, match="sam_rho"):
        case_studies.tune_sam(plain, Thresholds())
