"""Pre-stated claims: verdicts on synthetic tables with known truth."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from scipy import stats
from tiny_study import mapping

from three_regime.analysis import claims, claims_files
from three_regime.config import Claim, Config, Side, load, resolve
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError

HOT, COLD = Side(temperatures=(10,)), Side(temperatures=(30,))
CELL = ["dense_seed", "temperature", "density"]


def claim(
    measure: str = "test_error", of: Side = HOT, against: Side = COLD, expect: str = "lower", margin=0.0
) -> Claim:
    return Claim(name="it", statement="It.", measure=measure, of=of, against=against, expect=expect, margin=margin)


class Study:
    """Tables of a study with temperatures 10, 20, 30 and densities 0.1, 0.5.

    `error` (above 0.2), `lmc` and `cka` take (dense seed, temperature, density, replica or pair of replicas).
    """

    def __init__(self, seeds=(1, 2, 3), replicas=(1, 2, 3), error=None, lmc=None, cka=None) -> None:
        error, lmc, cka = (each or (lambda *at: 0.0) for each in (error, lmc, cka))
        cells = list(itertools.product(seeds, (10.0, 20.0, 30.0), (0.1, 0.5)))
        self.replicas = pd.DataFrame(
            [(*cell, replica, 0.2 + error(*cell, replica)) for cell in cells for replica in replicas],
            columns=[*CELL, "replica", "test_error"],
        )
        self.pairs = pd.DataFrame(
            [
                (*cell, f"{pair[0]}-{pair[1]}", lmc(*cell, pair), cka(*cell, pair))
                for cell in cells
                for pair in itertools.combinations(replicas, 2)
            ],
            columns=[*CELL, "pair", "lmc", "cka_softmax"],
        )
        table = self.replicas.groupby(CELL)["test_error"].mean().to_frame()
        table = table.join(self.pairs.groupby(CELL)[["lmc", "cka_softmax"]].mean()).reset_index()
        self.cells = table.assign(study="made-up", dataset="cifar10", model="m", knob="epochs", origin="computed")
        self.cells["dense_test_error"] = 0.3

    def judge(self, *stated: Claim, thresholds: Thresholds | None = None) -> pd.Series:
        table = claims.evaluate(stated, self.cells, self.replicas, self.pairs, thresholds or Thresholds())
        return table.iloc[0]


def test_a_claim_is_a_mean_over_dense_seeds_of_differences():
    shift = {1: -0.03, 2: -0.01, 3: -0.02}
    row = Study(error=lambda s, t, d, r: 0.4 + (shift[s] if t == 10 else 0) + 0.01 * s).judge(claim())
    assert row.estimate == pytest.approx(-0.02)
    assert row.se == pytest.approx(0.01 / np.sqrt(3)), "the level of a dense seed cancels"
    assert (row.lower, row.upper) == pytest.approx((-0.02 - 2.92 * row.se, -0.02 + 2.92 * row.se), abs=1e-5)
    assert (row.seeds, row.agreeing, row.outcome) == (3, 3, "holds")


@pytest.mark.parametrize(
    ("expect", "margin", "difference", "outcome"),
    [
        ("lower", 0.0, -0.02, "holds"),
        ("lower", 0.0, 0.02, "fails"),
        ("lower", 0.0, -0.002, "undecided"),
        ("lower", 0.015, -0.02, "undecided"),
        ("lower", 0.03, -0.02, "fails"),
        ("higher", 0.0, 0.02, "holds"),
        ("higher", 0.0, -0.02, "fails"),
        ("not_higher", 0.0, 0.0, "undecided"),
        ("not_higher", 0.02, 0.0, "holds"),
        ("not_higher", 0.005, 0.02, "fails"),
        ("not_lower", 0.02, 0.0, "holds"),
        ("not_lower", 0.005, -0.02, "fails"),
    ],
)
def test_bounds_decide_the_side_of_the_margin(expect, margin, difference, outcome):
    spread = {1: -0.004, 2: 0.0, 3: 0.004}  # standard error 0.0023, bounds 0.0067 away
    study = Study(error=lambda s, t, d, r: (difference + spread[s]) * (t == 10))
    assert study.judge(claim(expect=expect, margin=margin)).outcome == outcome


@pytest.mark.parametrize("expect", ["lower", "not_higher", "higher", "not_lower"])
def test_a_bound_exactly_on_the_limit_decides_nothing(expect):
    assert claims.outcome(expect, 0.0, -1.0, 0.0) == claims.outcome(expect, 0.0, 0.0, 1.0) == "undecided"
    assert {claims.outcome(expect, 0.0, -1.0, -0.1), claims.outcome(expect, 0.0, 0.1, 1.0)} == {"holds", "fails"}


def test_replicas_alone_decide_about_the_networks_at_hand():
    rng = np.random.default_rng(0)
    by_seed = {1: -0.05, 2: 0.01, 3: -0.06}
    study = Study(error=lambda s, t, d, r: by_seed[s] * (t == 10) + rng.normal(0, 0.002))
    row = study.judge(claim())
    assert row.outcome == "undecided" and row.agreeing == 2
    assert row.these_networks == "holds" and row.replica_se < row.se / 5


def test_the_replica_error_is_paired_over_temperatures():
    noise = {
        (s, t, r): (s * 7 + r * r + t / 10 * r) % 5 / 100 for s in (1, 2, 3) for t in (10, 20, 30) for r in (1, 2, 3)
    }
    study = Study(error=lambda s, t, d, r: noise[s, t, r])
    paired = np.array([[noise[s, 10, r] - noise[s, 30, r] for r in (1, 2, 3)] for s in (1, 2, 3)])
    expected = np.sqrt(np.sum(paired.var(axis=1, ddof=1) / 3)) / 3
    assert study.judge(claim()).replica_se == pytest.approx(expected)


def test_a_replica_that_stands_apart_widens_the_bounds():
    apart = Study(lmc=lambda s, t, d, pair: -0.1 * (t == 30) * (3 in pair)).judge(claim("lmc", COLD, HOT))
    alike = Study(lmc=lambda s, t, d, pair: -0.0667 * (t == 30)).judge(claim("lmc", COLD, HOT))
    assert apart.estimate == pytest.approx(alike.estimate, abs=1e-4)
    assert alike.replica_se == pytest.approx(0, abs=1e-9) and alike.these_networks == "holds"
    naive = np.std([0, -0.1, -0.1], ddof=1) / np.sqrt(9)
    assert apart.replica_se > 1.9 * naive, "three pairs of three replicas are not three repetitions"


def test_two_replicas_are_one_pair_and_leave_its_spread_unknown():
    study = Study(replicas=(1, 2), lmc=lambda s, t, d, pair: -0.1 * (t == 30) - 0.001 * s * (t == 30))
    row = study.judge(claim("lmc", COLD, HOT))
    assert row.outcome == "holds" and np.isnan(row.replica_se) and row.these_networks == ""
    assert "spread unknown" in claims_files.to_markdown(pd.DataFrame([row]), "made-up")


@pytest.mark.parametrize(
    ("dataset", "said"), [("cifar10", "test errors in points"), ("toy", "100 − BLEU"), ("?", "test errors in points")]
)
def test_the_page_states_the_units_of_its_setting(tmp_path, dataset, said):
    study = Study()
    study.cells["dataset"] = dataset
    for name in ("cells", "replicas", "pairs"):
        getattr(study, name).to_csv(tmp_path / f"{name}.csv", index=False)
    page = claims_files.of_folder(tmp_path, [claim()], Thresholds())[1]
    assert said in page.split("*Outcome*")[0]


def test_densities_are_compared_over_all_temperatures():
    study = Study(cka=lambda s, t, d, pair: d + t / 1000 + s / 1e4)
    row = study.judge(claim("cka_softmax", Side(densities=(0.5,)), Side(densities=(0.1,)), "higher"))
    assert row.estimate == pytest.approx(0.4) and row.outcome == "holds"


def test_an_algorithm_is_judged_within_each_dense_seed():
    # From 30, Algorithm 1 leaves Regime I for 20 in seeds 1 and 2; in seed 3 nothing is in Regime I, and it stays.
    study = Study(
        lmc=lambda s, t, d, pair: -0.5 * (t == 30 and s < 3),
        cka=lambda s, t, d, pair: 0.9 + t / 1000,
        error=lambda s, t, d, r: {10: 0.1, 20: 0.2, 30: 0.3}[t] + 0.01 * s * (t == 20),
    )
    tuned, default = Side(algorithm="algorithm 1"), Side(algorithm="default temperature")
    row = study.judge(claim(of=tuned, against=default, expect="not_higher", margin=0.005))
    assert row.estimate == pytest.approx(np.mean([0.21 - 0.3, 0.22 - 0.3, 0.0]))
    assert row.agreeing == 3


def test_an_algorithm_decides_anew_when_a_replica_is_left_out():
    # Without replica 3 the coldest is connected, and Algorithm 1 stays where the default is.
    study = Study(
        lmc=lambda s, t, d, pair: -0.3 * (t == 30 and 3 in pair),
        cka=lambda s, t, d, pair: 0.9 + t / 1000,
        error=lambda s, t, d, r: {10: 0.1, 20: 0.2, 30: 0.3}[t],
    )
    tuned, default = Side(algorithm="algorithm 1"), Side(algorithm="default temperature")
    row = study.judge(claim(of=tuned, against=default, expect="not_higher", margin=0.005))
    assert row.estimate == pytest.approx(-0.1)
    left_out = np.array([-0.1, -0.1, 0.0])
    of_one_seed = 2 / 3 * np.sum((left_out - left_out.mean()) ** 2)
    assert row.replica_se == pytest.approx(np.sqrt(3 * of_one_seed) / 3)


def test_an_algorithm_that_stays_at_the_default_tests_nothing():
    # Without replica 3 Algorithm 1 would move: the jackknife has a spread, and yet nothing was compared.
    study = Study(
        lmc=lambda s, t, d, pair: -0.3 * (t == 30 and 3 not in pair and d < 0.2),
        cka=lambda s, t, d, pair: 0.9 + t / 1000,
        error=lambda s, t, d, r: {10: 0.1, 20: 0.2, 30: 0.3}[t] + s / 100,
    )
    tuned, default = Side(algorithm="algorithm 1"), Side(algorithm="default temperature")
    stated = claim(of=tuned, against=default, expect="not_higher", margin=0.005)
    row = study.judge(stated)
    assert row.se == 0 and row.estimate == 0
    assert row.outcome == row.these_networks == "not tested"
    page = claims_files.to_markdown(pd.DataFrame([row]), "made-up")
    assert "holds 0, fails 0, undecided 0, not tested 1" in page and "| same cells | **not tested** |" in page


def test_equal_differences_between_different_cells_are_a_test():
    row = Study(error=lambda s, t, d, r: 0.4 - 0.25 * (t == 10)).judge(claim())
    assert row.se == 0 and row.outcome == "holds"


def test_seeds_in_which_both_sides_are_the_same_cells_are_named():
    study = Study(
        lmc=lambda s, t, d, pair: -0.5 * (t == 30 and s == 3),
        cka=lambda s, t, d, pair: 0.9 + t / 1000,
        error=lambda s, t, d, r: {10: 0.1, 20: 0.2, 30: 0.3}[t],
    )
    tuned, default = Side(algorithm="algorithm 1"), Side(algorithm="default temperature")
    row = study.judge(claim(of=tuned, against=default, expect="not_higher", margin=0.005))
    assert row.outcome == "undecided"
    assert "both sides are the same cells in dense seed 1, 2" in row.note


def test_a_claim_says_when_its_mean_is_that_of_one_seed():
    by_seed = {1: -0.06, 2: -0.59, 3: -0.08}
    row = Study(lmc=lambda s, t, d, pair: by_seed[s] * (t == 30)).judge(claim("lmc", COLD, HOT))
    assert row.estimate == pytest.approx(np.mean(list(by_seed.values()))) and row.outcome == "undecided"
    assert row.note == "dense seed 2 dominates the spread: without it -0.0700"
    even = Study(lmc=lambda s, t, d, pair: -0.1 * s * (t == 30)).judge(claim("lmc", COLD, HOT))
    assert even.note == ""


@pytest.mark.parametrize(("measure", "shown"), [("lmc_middle", "-0.0500"), ("lmc_nll", "-0.0500")])
def test_further_measures_of_the_line_may_be_claimed(measure, shown):
    study = Study()
    study.pairs[measure] = -0.05 * (study.pairs["temperature"] == 30)
    row = study.judge(claim(measure, COLD, HOT))
    assert row.estimate == pytest.approx(-0.05) and row.outcome == "holds"
    assert f"| {shown} [" in claims_files.to_markdown(pd.DataFrame([row]), "made-up")
    study.pairs = study.pairs.drop(columns=measure)
    with pytest.raises(UserError, match=f"no column '{measure}'"):
        study.judge(claim(measure, COLD, HOT))


def test_one_dense_seed_decides_nothing_about_new_ones():
    row = Study(seeds=(1,), error=lambda s, t, d, r: -0.1 * (t == 10) + 0.001 * r).judge(claim())
    assert row.outcome == "undecided" and np.isnan(row.se)
    assert row.estimate == pytest.approx(-0.1) and row.these_networks == "holds"


def test_a_dense_seed_without_a_cell_does_not_count_and_is_named():
    study = Study(error=lambda s, t, d, r: (-0.05 - 0.001 * s) * (t == 10))
    gone = (study.replicas["dense_seed"] == 2) & (study.replicas["temperature"] == 10)
    study.replicas = study.replicas[~gone]
    row = study.judge(claim())
    assert row.seeds == 2 and row.note == "cells missing for dense seed 2"
    part = (study.replicas["dense_seed"] == 1) & (study.replicas["density"] == 0.5)
    study.replicas = study.replicas[~part]
    row = study.judge(claim())
    assert row.seeds == 1 and row.note.startswith("cells missing for dense seed 1, 2"), "half a side is no side"
    study.replicas = study.replicas[study.replicas["temperature"] != 10]
    row = study.judge(claim())
    assert (row.seeds, row.outcome) == (0, "undecided") and np.isnan(row.estimate)
    assert "not run" in claims_files.to_markdown(pd.DataFrame([row]), "made-up")


def stating(**changes) -> dict:
    fields = {
        "name": "a",
        "statement": "A.",
        "measure": "lmc",
        "of": {"temperatures": [1]},
        "against": {},
        "expect": "lower",
    }
    return {**fields, **changes}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ([stating(measuer="lmc")], r"claims\.0\.measuer: unknown key; did you mean 'measure'"),
        ([stating(of={"temperature": [1]})], r"claims\.0\.of\.temperature: unknown key; did you mean 'temperatures'"),
        ([stating(), stating()], "two are named 'a'"),
        ([stating(of={"temperatures": [3]})], "'a' refers to temperatures 3; the study has 1, 2"),
        ([stating(against={"densities": [0.2]})], "'a' refers to densities 0.2; the study has 0.1, 0.5"),
        ([stating(of={"temperatures": [1], "algorithm": "algorithm 1"})], "temperatures or an algorithm"),
        ([stating(of={"algorithm": "algorithm 3"})], "algorithm"),
        ([stating(expect="less")], "expect"),
        ([stating(margin=-1)], "margin"),
        ([stating(measure="chrf")], "'a': networks of this study have no chrf"),
    ],
)
def test_a_claim_about_what_the_study_lacks_is_refused(tmp_path, stated, message):
    with pytest.raises(UserError, match=message):
        resolve(mapping(tmp_path, claims=stated))


def test_a_score_of_translation_is_a_measure_in_points():
    study = Study()
    study.replicas["chrf"] = 40 + 2.5 * (study.replicas["temperature"] == 10)
    row = study.judge(claim("chrf", expect="higher"))
    assert row.outcome == "holds" and "| +2.50 [" in claims_files.to_markdown(pd.DataFrame([row]), "made-up")
    stated = load([ROOT / "config.yaml", ROOT / "config/multi30k.yaml"]).studies["multi30k"].claims
    assert "chrf" in {each.measure for each in stated}


def test_the_preset_states_each_of_the_four_claims():
    config: Config = load([ROOT / "config.yaml", ROOT / "config/cifar10-cpu.yaml"])
    stated = config.studies["cifar10-cpu"].claims
    assert {each.name[0] for each in stated} == set("abcd")
    assert {each.measure for each in stated} == {"lmc", "cka_softmax", "test_error"}


def test_one_replica_makes_no_pairs_and_no_spread() -> None:
    row = Study(replicas=(1,), error=lambda seed, t, d, replica: t / 1000 + seed / 10_000).judge(claim())
    assert row["outcome"] == "holds" and row["estimate"] == pytest.approx(-0.02)


def test_a_claim_over_replicas_needs_one_dense_seed() -> None:
    stated = {**over_replicas().model_dump(), "of": {"temperatures": [1]}, "against": {"temperatures": [2]}}
    resolve(mapping(Path("x"), claims=[stated]))
    with pytest.raises(UserError, match="over: replicas needs one dense seed, not 2"):
        resolve(mapping(Path("x"), claims=[stated], dense_seeds=[1, 2]))


def test_two_replicas_have_no_spread_of_pairs() -> None:
    """So a claim that could never be decided is refused before the study is run."""
    sides = {"of": {"temperatures": [1]}, "against": {"temperatures": [2]}, "measure": "lmc"}
    stated = {**over_replicas().model_dump(), **sides}
    with pytest.raises(UserError, match="the spread of lmc needs 3 replicas or a stated cell_noise"):
        resolve(mapping(Path("x"), claims=[stated], replicas=[1, 2]))
    resolve(mapping(Path("x"), claims=[stated], replicas=[1, 2, 3]))
    resolve(mapping(Path("x"), claims=[{**stated, "cell_noise": 0.01}], replicas=[1, 2]))
    resolve(mapping(Path("x"), claims=[{**stated, "measure": "test_error"}], replicas=[1, 2]))


def over_replicas(**changes) -> Claim:
    return claim().model_copy(update={"over": "replicas", **changes})


def test_replicas_decide_a_study_of_one_dense_seed():
    study = Study(seeds=(1,), error=lambda s, t, d, r: 0.4 - (0.02 if t == 10 else 0) + 0.001 * r * (t == 10))
    row = study.judge(over_replicas())
    assert (row.outcome, row.these_networks) == ("holds", "holds") and np.isnan(row.se)
    assert study.judge(claim()).outcome == "undecided", "one dense seed says nothing about others"


def test_cell_noise_is_added_in_quadrature():
    study = Study(seeds=(1,), error=lambda s, t, d, r: 0.4 - (0.01 if t == 10 else 0) + 0.0001 * r * (t == 10))
    quiet, noisy = (study.judge(over_replicas(cell_noise=noise)) for noise in (0.0, 0.02))
    sides = 2 * 0.02**2 / 2  # each side is the mean of two cells
    assert noisy.replica_se == pytest.approx(np.sqrt(quiet.replica_se**2 + sides))
    assert (quiet.outcome, noisy.outcome) == ("holds", "undecided")


def test_cell_noise_alone_judges_the_lmc_of_two_replicas():
    study = Study(seeds=(1,), replicas=(1, 2), lmc=lambda s, t, d, pair: 0.0 if t == 10 else -0.5)
    stated = over_replicas(measure="lmc", expect="higher")
    assert study.judge(stated).outcome == "undecided", "one pair has no spread"
    row = study.judge(stated.model_copy(update={"cell_noise": 0.04}))
    assert row.outcome == "holds" and row.replica_se == pytest.approx(0.04)
    assert row.replica_lower == pytest.approx(0.5 - 1.645 * 0.04, abs=1e-3), "known noise has no t distribution"


def test_where_an_algorithm_stops_is_a_measure():

    def cka(seed: int, temperature: float, density: float, pair: tuple[int, int]) -> float:
        return 0.9 + temperature / 1000

    stated = over_replicas(
        measure="temperature", of=Side(algorithm="algorithm 1"), against=Side(algorithm="default temperature")
    )
    left = Study(seeds=(1,), lmc=lambda s, t, d, pair: -0.5 if t == 30 else 0.0, cka=cka).judge(stated)
    assert (left.outcome, left.estimate) == ("holds", -10), "one step hotter than Regime I"
    stayed = Study(seeds=(1,), cka=cka).judge(stated)
    assert stayed.outcome == "not tested", "both sides are the coldest cells"


STOPS = {
    "measure": "temperature",
    "of": Side(algorithm="algorithm 1"),
    "against": Side(algorithm="default temperature"),
}


@pytest.mark.parametrize(
    ("seeds", "staying", "outcome"),
    [(2, 0, "undecided"), (4, 0, "undecided"), (5, 0, "holds"), (6, 1, "undecided"), (8, 1, "holds")],
)
def test_a_choice_is_judged_over_dense_seeds_by_a_sign_test(seeds, staying, outcome):
    """Choices are alike where dense seeds agree, so their spread is 0 and says nothing."""
    study = Study(
        seeds=tuple(range(1, seeds + 1)),
        lmc=lambda s, t, d, pair: -0.5 * (t == 30 and s > staying),
        cka=lambda s, t, d, pair: 0.9 + t / 1000,
    )
    row = study.judge(claim(**STOPS))
    assert row.outcome == outcome and row.agreeing == seeds - staying
    assert np.isnan([row.se, row.lower, row.upper]).all() and "a sign test" in row.note


@pytest.mark.parametrize(
    ("connected", "outcome"),
    [
        ((), "holds"),  # every choice is 10 or 20, whichever replica is left out
        ((30,), "undecided"),  # without replica 3 the coldest is connected
    ],
)
def test_a_choice_is_judged_over_replicas_by_leaving_one_out(connected, outcome):
    def lmc(seed: int, temperature: float, density: float, pair: tuple[int, int]) -> float:
        if temperature == 30:
            return 0.0 if temperature in connected and 3 not in pair else -0.5
        return -0.13 * (temperature == 20 and pair == (1, 2))  # connected on average, not by the first pair alone

    study = Study(seeds=(1,), lmc=lmc, cka=lambda s, t, d, pair: 0.9 + t / 1000)
    row = study.judge(over_replicas(**STOPS))
    assert (row.outcome, row.these_networks) == (outcome, outcome) and np.isnan(row.replica_se)
    assert row.estimate == -10


def test_a_dense_seed_that_lacks_a_replica_is_named():
    study = Study(error=lambda s, t, d, r: (-0.05 - 0.001 * s) * (t == 10))
    gone = (study.replicas["dense_seed"] == 2) & (study.replicas["temperature"] == 10) & (study.replicas["replica"] > 1)
    study.replicas = study.replicas[~gone]
    row = study.judge(claim())
    assert row.seeds == 3 and row.note == "fewer replicas in dense seed 2"


def test_seeds_without_a_difference_add_no_degrees_of_freedom():
    """Satterthwaite over dense seeds, as within one; equal variances add up."""
    assert claims._satterthwaite([(0.5, 2), (0.0, 2), (0.0, float("inf"))]) == 2
    assert claims._satterthwaite([(0.5, 2), (0.5, 2)]) == 4
    assert claims._satterthwaite([(0.5, 2), (1e-9, 2)]) == pytest.approx(2, abs=1e-6)
    assert claims._satterthwaite([(0.5, float("inf"))]) == float("inf")
    assert claims._satterthwaite([(0.0, 2), (0.0, 2)]) == 4


def test_a_density_that_is_no_short_fraction_is_left_out_alike():
    study = Study()
    for table in (study.cells, study.replicas, study.pairs):
        table["density"] = table["density"].replace(0.1, 1 / 3)
    study.cells["density"] = study.cells["density"].round(6)
    left = claims._leave_out("1", study.cells, study.replicas, study.pairs)[0]
    assert left["test_error"].notna().all()


def test_algorithms_are_run_if_any_claim_is_about_one():
    study, here = Study(), {"densities": [0.1]}
    sides = Side(algorithm="algorithm 1", **here), Side(algorithm="default temperature", **here)
    stated = [claim("temperature", *sides).model_copy(update={"name": "of-an-algorithm"}), claim()]
    both = claims.evaluate(stated, study.cells, study.replicas, study.pairs, Thresholds())
    assert both["seeds"].tolist() == [3, 3]


def test_a_limit_of_zero_has_no_sign():
    assert str(Study().judge(claim(expect="lower", margin=0.0))["limit"]) == "0.0"


def test_degrees_of_freedom_with_a_cell_noise_are_satterthwaites():
    study = Study(seeds=(1,), error=lambda s, t, d, r: 0.01 * r * (t == 10))
    tables = claims._Tables.of([over_replicas()], study.cells, study.replicas, study.pairs, Thresholds())
    quiet, freedom = claims._replica_variance(over_replicas(), tables, 1)
    assert freedom == 2
    noisy = over_replicas(cell_noise=float(np.sqrt(quiet)))
    variance, freedom = claims._replica_variance(noisy, tables, 1)
    assert freedom == pytest.approx(2 * (variance / quiet) ** 2)


def test_replicas_are_told_apart_whatever_their_numbers():
    """Leaving out replica 1 leaves the pair 10-11."""
    noise = {frozenset(pair): value for pair, value in (((1, 2), 0.01), ((1, 3), -0.02), ((2, 3), 0.05))}
    rows = []
    for names in ((1, 2, 3), (1, 10, 11)):
        place = {name: number for number, name in enumerate(names, 1)}
        study = Study(
            replicas=names,
            lmc=lambda s, t, d, pair, place=place: (t == 30) * noise[frozenset(place[name] for name in pair)],
        )
        rows.append(study.judge(claim("lmc", COLD, HOT)))
    assert rows[0].replica_se == pytest.approx(rows[1].replica_se) and rows[0].replica_se > 0


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_the_bound_of_replicas_is_students(noise):
    """With the degrees of freedom of the jackknife, or, with a stated noise, Satterthwaite's."""
    study = Study(seeds=(1,), error=lambda s, t, d, r: 0.4 + 0.01 * r * (t == 10))
    row = study.judge(over_replicas(cell_noise=noise))
    jackknife = np.var([0.01, 0.02, 0.03], ddof=1) / 3
    total = jackknife + noise**2
    bound = stats.t.ppf(0.95, 2 * (total / jackknife) ** 2) * np.sqrt(total)
    assert row.replica_upper == pytest.approx(row.estimate + bound)


def test_the_noise_of_a_shared_cell_cancels():
    study = Study(seeds=(1,), replicas=(1, 2), lmc=lambda s, t, d, pair: 0.0)
    sides = {"of": Side(temperatures=(10, 20)), "against": Side(temperatures=(20, 30))}
    assert study.judge(over_replicas(measure="lmc", cell_noise=0.04, **sides)).replica_se == pytest.approx(0.02)


def test_algorithm_1_starts_at_the_usual_temperature():
    """For SAM that is the smallest radius, which is in Regime I here."""
    study = Study(seeds=(1,), cka=lambda s, t, d, pair: 0.9)
    for table in (study.cells, study.replicas, study.pairs):
        table["temperature"] = table["temperature"] / 100
    study.cells["knob"] = "sam_rho"
    study.cells["lmc"] = np.where(study.cells["temperature"] == 0.1, -0.5, 0.0)
    sides = {"of": Side(algorithm="algorithm 1"), "against": Side(algorithm="default temperature")}
    assert study.judge(over_replicas(measure="temperature", **sides)).estimate == pytest.approx(0.1)
