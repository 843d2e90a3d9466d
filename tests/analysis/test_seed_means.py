"""Means over dense seeds and their uncertainty."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from three_regime.analysis import references, seed_means
from three_regime.errors import UserError


def cells(seeds=(1, 2, 3), temperatures=(10.0, 20.0), densities=(0.05, 0.1), value=None, **columns) -> pd.DataFrame:
    """Synthetic cells; `value(seed, temperature, density)` is the test error."""
    value = value or (lambda seed, temperature, density: 0.1 + 0.01 * seed + temperature / 1000 + density)
    rows = [
        {"dense_seed": seed, "temperature": t, "density": d, "test_error": value(seed, t, d)}
        for seed in seeds
        for t in temperatures
        for d in densities
    ]
    fixed = {"study": "s", "dataset": "cifar10", "model": "preresnet-20", "knob": "epochs", "origin": "computed"}
    return pd.DataFrame(rows).assign(**(fixed | columns))


def cell(grid: pd.DataFrame, temperature: float, density: float) -> pd.Series:
    found = grid[(grid["temperature"] == temperature) & np.isclose(grid["density"], density)]
    assert len(found) == 1
    return found.iloc[0]


def test_one_row_per_cell_of_the_plane_with_the_mean_over_seeds():
    grid = seed_means.grid(cells())
    assert len(grid) == 4 and set(grid["seeds"]) == {3}
    assert cell(grid, 10, 0.05)["test_error"] == pytest.approx(0.1 + 0.02 + 0.01 + 0.05)


def test_the_columns_of_a_grid():
    metrics = [
        "dense_test_error", "test_error", "lmc", "lmc_middle", "lmc_nll", "lmc_test", "cka_logits", "cka_softmax",
    ]  # fmt: skip
    about = ["study", "knob", "temperature", "density", "dataset", "model", "origin", "seeds"]
    kinds = ["", "_se", "_ci95", "_seeds", "_of_seeds", "_one_seed"]
    expected = [*about, *(f"{name}{kind}" for name in [*metrics, "normalised_test_error"] for kind in kinds)]
    expected += ["test_error_highest"]
    grid = seed_means.grid(cells())
    assert set(grid) == set(expected) and list(grid)[: len(about)] == about
    with_proxy = seed_means.grid(cells(dense_proxy=0.1))
    assert set(with_proxy) - set(grid) == {f"dense_proxy{kind}" for kind in kinds}
    assert (with_proxy["dense_proxy"] - 0.1).abs().max() < 1e-12 and set(with_proxy["dense_proxy_seeds"]) == {3}


def test_rows_are_ordered_by_study_density_and_temperature():
    grid = seed_means.grid(pd.concat([cells(study="b"), cells(study="a")])[::-1])
    places = grid[["study", "density", "temperature"]]
    pd.testing.assert_frame_equal(places, places.sort_values(list(places)))
    assert list(grid.index) == list(range(8))


def test_variance_is_pooled_with_weight_seeds_minus_one():
    errors = {(10.0, 1): 0.10, (10.0, 2): 0.12, (10.0, 3): 0.17, (20.0, 1): 0.20, (20.0, 2): 0.21}
    table = cells(densities=(0.05,), value=lambda seed, t, d: errors.get((t, seed), np.nan))
    grid = seed_means.grid(table)
    pooled = (2 * np.var([0.10, 0.12, 0.17], ddof=1) + 1 * np.var([0.20, 0.21], ddof=1)) / 3
    three, two = cell(grid, 10, 0.05), cell(grid, 20, 0.05)
    assert three["test_error_se"] == pytest.approx(np.sqrt(pooled / 3))
    assert two["test_error_se"] == pytest.approx(np.sqrt(pooled / 2))
    assert three["test_error_ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * three["test_error_se"])
    assert two["test_error_ci95"] == pytest.approx(stats.t.ppf(0.975, 1) * two["test_error_se"])
    assert (three["test_error_seeds"], two["test_error_seeds"], two["seeds"]) == (3, 2, 2)


def test_a_quiet_density_does_not_take_the_spread_of_a_loud_one():
    """Spreads of 0.0005 at 80 % and 0.3 at 5 %, as in the demo: pooled over both, all would be ± 0.2."""
    offsets = {1: -1.0, 2: 0.0, 3: 1.0}
    by_density = {0.05: 0.3, 0.2: 0.02, 0.8: 0.0005}
    grid = seed_means.grid(
        cells(densities=(0.05, 0.2, 0.8), value=lambda seed, t, d: 0.5 + t / 1000 + by_density[d] * offsets[seed])
    )
    for density, spread in by_density.items():
        for temperature in (10, 20):
            row = cell(grid, temperature, density)
            assert row["test_error_se"] == pytest.approx(spread / np.sqrt(3))
            assert row["test_error_ci95"] == pytest.approx(stats.t.ppf(0.975, 2) * spread / np.sqrt(3))


def test_the_spread_is_pooled_over_the_temperatures_of_a_density():
    offsets = {10.0: 0.01, 20.0: 0.03}
    grid = seed_means.grid(cells(value=lambda seed, t, d: 0.5 + offsets[t] * (seed - 2) * (1 if d < 0.07 else 2)))
    pooled = np.sqrt((0.01**2 + 0.03**2) / 2)
    for temperature in offsets:
        assert cell(grid, temperature, 0.05)["test_error_se"] == pytest.approx(pooled / np.sqrt(3))
        assert cell(grid, temperature, 0.1)["test_error_se"] == pytest.approx(2 * pooled / np.sqrt(3))


def test_paired_differences_are_pooled_within_a_density_too():
    noise = {0.05: 0.2, 0.1: 0.001}
    table = cells(value=lambda seed, t, d: 0.1 + 0.1 * seed + (t == 20) * (0.01 + noise[d] * (seed - 2)))
    grid = seed_means.grid(table)
    for density, spread in noise.items():
        assert cell(grid, 20, density)["normalised_test_error_se"] == pytest.approx(spread / np.sqrt(3))


@pytest.mark.parametrize(
    ("values", "seed"),
    [
        ([-0.06, -0.59, -0.08], 2),  # the demo at 5 % and 40 epochs
        ([0.1, 0.2, 0.3], None),
        ([0.1, 0.15, 0.3], None),
        ([0.1, 0.1, 0.3], 3),
        ([0.5, 0.1, np.nan], None),
        ([0.1, 0.1, 0.1], None),
        ([0.0, 5e-17, 0.0], None),  # a difference of equal errors
        ([1.0, 0.10, 0.11, 0.12, 0.09], 1),
    ],
)
def test_a_seed_dominates_when_the_spread_is_its_own(values, seed):
    found = seed_means.dominant_seed(pd.Series(values, index=range(1, len(values) + 1)))
    assert found == seed if seed else np.isnan(found)


def test_a_dominant_seed_is_named_where_it_carries_the_error():
    loud, quiet = {1: 0.0, 2: -0.5, 3: 0.01}, {1: 0.0, 2: -0.001, 3: 0.0}
    at = {(10.0, 0.05): loud, (20.0, 0.05): quiet, (10.0, 0.1): quiet, (20.0, 0.1): quiet}
    grid = seed_means.grid(cells(value=lambda seed, t, d: 0.6 + at[t, d][seed]))
    assert cell(grid, 10, 0.05)["test_error_one_seed"] == 2
    assert np.isnan(cell(grid, 20, 0.05)["test_error_one_seed"]), "its error is that of the loud cell"
    assert cell(grid, 10, 0.1)["test_error_one_seed"] == cell(grid, 20, 0.1)["test_error_one_seed"] == 2


def test_a_dominant_seed_is_named_whatever_the_rounding():
    """In cells of equal variance, some of which are rounded below the pooled one."""
    shift = {1: 0.0, 2: 0.3, 3: 0.001}
    grid = seed_means.grid(
        cells(temperatures=range(10, 20), densities=(0.05,), value=lambda seed, t, d: 0.1 + t / 70 + shift[seed])
    )
    assert set(grid["test_error_one_seed"]) == {2.0}


def test_studies_are_pooled_apart():
    noisy = cells(study="noisy", value=lambda seed, t, d: 0.1 * seed)
    quiet = cells(study="quiet", value=lambda seed, t, d: 0.1)
    grid = seed_means.grid(pd.concat([noisy, quiet])).groupby("study")["test_error_se"].max()
    assert grid["quiet"] == 0 and grid["noisy"] == pytest.approx(0.1 / np.sqrt(3))


def test_a_single_seed_has_a_mean_and_no_uncertainty():
    grid = seed_means.grid(cells(seeds=(1,)))
    assert grid["test_error"].notna().all() and grid["normalised_test_error"].notna().all()
    for metric in ("test_error", "normalised_test_error"):
        assert grid[f"{metric}_se"].isna().all() and grid[f"{metric}_ci95"].isna().all()


def test_a_cell_of_one_seed_has_no_standard_error():
    table = cells(seeds=(1, 2))
    first = table["temperature"].min()
    lone = (table["temperature"] == first) & (table["dense_seed"] == 2)
    grid = seed_means.grid(table[~lone])
    of_one = grid["temperature"] == first
    assert grid.loc[of_one, "test_error"].notna().all() and grid.loc[of_one, "test_error_se"].isna().all()
    assert grid.loc[~of_one, "test_error_se"].notna().all()


def test_a_cell_of_one_seed_tells_nothing_of_the_spread():
    """Beside cells of three seeds it neither adds to the pooled variance nor to its degrees of freedom."""
    three = cells(temperatures=(10.0,), densities=(0.05,))
    both = pd.concat([three, cells(seeds=(1,), temperatures=(20.0,), densities=(0.05,))])
    alone, beside = (cell(seed_means.grid(table), 10, 0.05) for table in (three, both))
    assert beside["test_error_se"] == pytest.approx(alone["test_error_se"]) and alone["test_error_se"] > 0
    assert beside["test_error_ci95"] == pytest.approx(alone["test_error_ci95"])


def test_the_ends_of_a_range_are_possible():
    whole = cells(value=lambda seed, t, d: float(seed == 1), cka_softmax=1.0, lmc=-1.0)
    assert seed_means.check_cells(whole)["test_error"].max() == 1
    for wrong in (1.001, -0.001):
        with pytest.raises(UserError, match="'test_error' holds"):
            seed_means.check_cells(whole.assign(test_error=wrong))


def test_a_shared_seed_cancels_in_the_normalised_error():
    grid = seed_means.grid(cells(value=lambda seed, t, d: 0.1 * seed + t / 1000))
    assert cell(grid, 20, 0.05)["test_error_se"] > 0.05
    hot, cold = cell(grid, 10, 0.05), cell(grid, 20, 0.05)
    assert hot["normalised_test_error"] == 0 and hot["normalised_test_error_se"] == 0
    assert cold["normalised_test_error"] == pytest.approx(0.01)
    assert cold["normalised_test_error_se"] == pytest.approx(0, abs=1e-12)


def test_values_not_run_stay_missing_and_do_not_count():
    table = cells(lmc=np.nan)
    table.loc[table["temperature"] == 20, "test_error"] = np.nan
    table.loc[table["temperature"] == 20, "origin"] = np.nan
    grid = seed_means.grid(table)
    assert grid["lmc"].isna().all() and (grid["lmc_seeds"] == 0).all()
    missing = grid[grid["temperature"] == 20]
    assert missing["test_error"].isna().all() and (missing["seeds"] == 0).all() and (missing["origin"] == "").all()


def test_origins_of_a_mixed_cell_are_both_named():
    table = cells()
    table.loc[table["dense_seed"] == 2, "origin"] = "imported"
    assert set(seed_means.grid(table)["origin"]) == {"computed+imported"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="density"), "lacks the column 'density'"),
        (lambda table: table.assign(density=5.0), "'density' holds 5 in row 2"),
        (lambda table: table.assign(density=0.0), "'density' must hold fractions"),
        (lambda table: table.assign(knob="colour"), "knob 'colour' is not one of epochs"),
        (lambda table: table.assign(lmc="low"), "column 'lmc' holds something that is not a number"),
        (lambda table: table.assign(dense_seed=np.nan), "column 'dense_seed' has an empty field"),
        (lambda table: pd.concat([table, table.head(1)]), "twice"),
    ],
)
def test_tables_that_break_the_contract_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        seed_means.grid(change(cells()))


def test_cells_are_read_from_a_file_export_or_folder(tmp_path):
    cells().to_csv(tmp_path / "cells.csv", index=False)
    for name in ("a", "b"):
        (tmp_path / "results" / name).mkdir(parents=True)
        cells(study=name).to_csv(tmp_path / "results" / name / "cells.csv", index=False)
    assert len(seed_means.read_cells(tmp_path)) == len(seed_means.read_cells(tmp_path / "cells.csv")) == 12
    assert set(seed_means.read_cells(tmp_path / "results")["study"]) == {"a", "b"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty is not a cells.csv"):
        seed_means.read_cells(tmp_path / "empty")
    (tmp_path / "empty" / "cells.csv").touch()
    with pytest.raises(UserError, match="not a CSV table"):
        seed_means.read_cells(tmp_path / "empty")


def test_the_published_figure_is_no_seed_of_a_results_folder(tmp_path) -> None:
    """A run writes it beside its studies, under the name of the study that it is compared with."""
    for name, table in {"own": cells(seeds=(1, 2)), "published": cells(seeds=(0,), origin="published")}.items():
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "cells.csv", index=False)
    assert set(seed_means.read_cells(tmp_path)["dense_seed"]) == {1, 2}
    assert set(seed_means.read_cells(tmp_path / "published")["origin"]) == {"published"}
    (tmp_path / "own" / "cells.csv").unlink()
    with pytest.raises(UserError, match="holds only published cells"):
        seed_means.read_cells(tmp_path)


def test_cells_that_lack_seeds_are_compared_on_those_they_have() -> None:
    """Seed 1 is easy: alone at 20 epochs, it must not make that temperature the best one."""
    errors = {(10.0, 1): 0.10, (10.0, 2): 0.14, (10.0, 3): 0.15, (20.0, 1): 0.11, (30.0, 1): 0.09}
    table = cells(temperatures=(10, 20, 30), densities=(0.05,), value=lambda seed, t, d: errors.get((t, seed), np.nan))
    found = seed_means.grid(table).set_index("temperature")["normalised_test_error"]
    assert found.to_dict() == pytest.approx({10: 0, 20: 0.01, 30: -0.01})


def test_equally_many_but_other_seeds_are_not_compared() -> None:
    """The colder model is better in every seed; seed 2 is harder. It lacks seed 1, and the hottest lacks seed 2."""
    table = cells(
        temperatures=(10.0, 20.0, 40.0), densities=(0.1,),
        value=lambda seed, t, d: 0.2 + 0.05 * (seed == 2) - 0.01 * (t == 40),
    )  # fmt: skip
    table = table[~((table["temperature"] == 40) & (table["dense_seed"] == 1))]
    table = table[~((table["temperature"] == 10) & (table["dense_seed"] == 2))]
    grid = seed_means.grid(table)
    assert grid["test_error_of_seeds"].tolist() == ["1+3", "1+2+3", "2+3"]
    assert seed_means.over_the_same_seeds(grid["test_error_of_seeds"], grid["density"]).tolist() == [False, True, False]
    table = table[~((table["temperature"] == 20) & (table["dense_seed"] == 3))]
    grid = seed_means.grid(table)
    assert grid["test_error_of_seeds"].tolist() == ["1+3", "1+2", "2+3"]
    assert seed_means.over_the_same_seeds(grid["test_error_of_seeds"], grid["density"]).sum() == 1
    assert cell(grid, 40, 0.1)["normalised_test_error"] == pytest.approx(-0.01), "on seed 2, which both have"


def test_sets_of_seeds_do_not_depend_on_the_order_of_rows() -> None:
    table = cells(seeds=(2, 10), densities=(0.1,))
    rows = pd.concat([table.iloc[:1], table.iloc[:0:-1]])
    assert set(seed_means.grid(rows)["test_error_of_seeds"]) == {"2+10"}
    pd.testing.assert_frame_equal(seed_means.grid(rows), seed_means.grid(table))


def test_sets_of_seeds_survive_a_file(tmp_path) -> None:
    """A column of single seeds is read as numbers, one with gaps as fractions."""
    sets = pd.Series(["1", "", "1"])
    sets.to_frame("of").to_csv(tmp_path / "a.csv", index=False, na_rep="")
    read = pd.read_csv(tmp_path / "a.csv", skip_blank_lines=False)["of"]
    assert read.dtype == float
    assert read.map(seed_means.seed_names).tolist() == ["1", "", "1"]
    assert seed_means.over_the_same_seeds(read, pd.Series(0, read.index)).tolist() == [True, False, True]


def test_equal_cells_have_equal_means() -> None:
    """Means of equal numbers in another order differ in the last digit; a threshold or a tie must not see it."""
    values = {1: 0.1, 2: 0.2, 3: 0.3}
    grid = seed_means.grid(cells(value=lambda seed, t, d: values[seed if t == 10 else 4 - seed]))
    assert np.mean([0.1, 0.2, 0.3]) != np.mean([0.3, 0.2, 0.1])
    assert grid["test_error"].nunique() == 1
    lmc = seed_means.grid(cells(lmc=-0.09))["lmc"]
    assert np.mean([-0.09] * 3) < -0.09 and (lmc == -0.09).all()


@pytest.mark.parametrize(("column", "value"), [("cka_softmax", 1 + 5e-7), ("test_error", -5e-7)])
def test_rounding_does_not_make_a_value_impossible(column: str, value: float) -> None:
    table = cells(cka_softmax=0.5)
    assert seed_means.check_cells(table.assign(**{column: value}))[column].iloc[0] == value


def test_checking_leaves_the_table_alone() -> None:
    table = cells()
    before = table.copy()
    seed_means.check_cells(table)
    pd.testing.assert_frame_equal(table, before)


def test_the_interval_of_a_reference_is_students(tmp_path) -> None:
    """Of another study that a scorecard compares with."""
    cells(value=lambda seed, t, d: 0.2 + 0.01 * (seed - 2)).to_csv(tmp_path / "cells.csv", index=False)
    found = references.of_export(tmp_path).cells
    row = found[found["panel"] == "test_error"].iloc[0]
    assert row["upper"] - row["value"] == pytest.approx(stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3))
