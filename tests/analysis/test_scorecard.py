"""Scorecard of the published figure: complete, partial and imported grids, and grids with nothing to compare."""

import numpy as np
import pandas as pd
import pytest
import yaml
from checkout import ROOT

from three_regime.analysis import figure2, references, scorecard, seed_means
from three_regime.analysis.scorecard_files import to_markdown
from three_regime.config import load
from three_regime.errors import UserError

STUDY = figure2.FIGURE2_STUDY


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return figure2.load()


def obtained_cells(published, seeds=(1, 2, 3), noise=0.001, **columns) -> pd.DataFrame:
    """The published values as if obtained: a seed's offset on every metric, logits less similar than softmax."""
    cells = figure2.as_cells(published).drop(columns="dense_proxy").assign(origin="computed", dense_test_error=0.085)
    cells["cka_logits"] = cells["cka_softmax"] - 0.02
    tables = []
    for seed in seeds:
        offset = noise * (seed - np.mean(seeds))
        shifted = {name: cells[name] + offset for name in ("test_error", "lmc")}
        shifted |= {name: cells[name] + 0.1 * offset for name in ("cka_softmax", "cka_logits")}  # stay below 1
        tables.append(cells.assign(dense_seed=seed, **shifted))
    return pd.concat(tables, ignore_index=True).assign(**columns)


def score(published, cells) -> scorecard.Scorecard:
    return scorecard.score(references.published(), seed_means.grid(cells))


def value(card: scorecard.Scorecard, measure: str, panel: str) -> float:
    found = card.headline[(card.headline["measure"] == measure) & (card.headline["panel"] == panel)]
    assert len(found) == 1, found
    return found["value"].iloc[0]


def test_the_published_values_score_perfectly_against_themselves(published):
    card = score(published, obtained_cells(published))
    assert len(card.cells) == 5 * 144 and set(card.cells["status"]) == {"obtained"}
    for panel in ("test_error", "normalised_test_error", "lmc", "cka_softmax"):
        part = card.cells[card.cells["panel"] == panel]
        assert part["difference"].abs().max() < 2e-4
        # normalised errors were digitised on their own: they differ from the errors above the minimum within that
        assert part["within"].all() or panel == "normalised_test_error"
        assert value(card, "Spearman within density", panel) > 0.99
    assert value(card, "regret of the obtained best temperature", "test_error") < 1e-4
    assert value(card, "agreement, three regimes, computed from the published values", "cka_softmax") == 1
    assert value(card, "agreement, Regime I against the rest, as drawn", "lmc") == pytest.approx(0.951, abs=0.001)
    assert value(card, "balanced accuracy, Regime I against the rest, as drawn", "lmc") == pytest.approx(
        0.958, abs=0.001
    )


def test_a_published_cell_stands_beside_the_obtained_one(published):
    cells = score(published, obtained_cells(published, noise=0.01)).cells
    assert list(cells) == [
        "study", "panel", "temperature", "density", "published", "lower", "upper", "obtained", "se", "ci95",
        "seeds", "of_seeds", "one_seed", "difference", "within", "status",
    ]  # fmt: skip
    row = cells.query("panel == 'lmc' and temperature == 40 and density == 0.1").iloc[0]
    assert row["difference"] == pytest.approx(row["obtained"] - row["published"])
    assert row["lower"] <= row["published"] <= row["upper"]
    assert (row["seeds"], row["status"]) == (3, "obtained")
    grid = seed_means.grid(obtained_cells(published, noise=0.01)).query("temperature == 40 and density == 0.1").iloc[0]
    assert row[["obtained", "se", "ci95"]].tolist() == grid[["lmc", "lmc_se", "lmc_ci95"]].tolist()


def test_three_temperatures_are_the_fewest_for_a_rank():
    table = pd.DataFrame({"density": [0.1] * 3 + [0.2] * 2, "a": [1, 2, 3, 1, 2], "b": [3, 2, 1, 1, 2]})
    assert scorecard.spearman_within_density(table, "a", "b").to_dict() == {0.1: -1}
    assert scorecard.spearman_within_density(table.assign(b=1), "a", "b").empty


def test_cka_is_scored_on_both_outputs_and_the_closer_is_named(published):
    card = score(published, obtained_cells(published))
    assert value(card, "CKA that fits better", "cka_softmax") == pytest.approx(0, abs=1e-9)
    swapped = obtained_cells(published).rename(columns={"cka_logits": "cka_softmax", "cka_softmax": "cka_logits"})
    assert value(score(published, swapped), "CKA that fits better", "cka_logits") == pytest.approx(0, abs=1e-9)
    alone = score(published, obtained_cells(published).assign(cka_logits=np.nan)).headline
    assert "needs both kinds in one cell" in alone["note"].tolist()


def test_only_order_within_a_density_counts(published):
    only_density = obtained_cells(published)
    only_density["test_error"] = only_density.groupby("density")["test_error"].transform("mean")
    only_density["test_error"] += 1e-6 * only_density["temperature"] * (-1) ** (only_density["temperature"] / 10)
    assert abs(value(score(published, only_density), "Spearman within density", "test_error")) < 0.4
    upside_down = obtained_cells(published).assign(lmc=lambda cells: -cells["lmc"] - 0.9)
    assert value(score(published, upside_down), "Spearman within density", "lmc") == pytest.approx(-1)


def test_a_partial_grid_is_scored_on_what_exists(published):
    cells = obtained_cells(published)
    cells = cells[cells["density"].isin([0.05, 0.14]) & cells["temperature"].isin([10, 80, 90, 160])]
    card = score(published, cells)
    status = card.cells.groupby(["panel", "status"]).size()
    assert status["test_error", "obtained"] == 8 and status["test_error", "not run"] == 136
    note = card.headline.set_index(["measure", "panel"]).loc[("Spearman within density", "lmc"), "note"]
    assert "2 densities" in note
    normalised = card.cells[card.cells["panel"] == "normalised_test_error"]
    assert normalised["within"].isna().all() and normalised["difference"].isna().all(), "another column minimum"
    text = to_markdown(card)
    assert "136 of 144 published cells" in text
    assert "- density 5 %: temperatures 20, 30, 40, 50, 60, 70, 100" in text


def test_regret_is_of_the_obtained_best_as_published(published):
    cells = obtained_cells(published)
    cells = cells[(cells["density"] == 0.05) & cells["temperature"].isin([80, 160])].copy()
    cells["test_error"] = np.where(cells["temperature"] == 160, 0.1, 0.2)
    card = score(published, cells)
    assert value(card, "regret of the obtained best temperature", "test_error") == pytest.approx(0.0283, abs=1e-4)
    row = card.headline[card.headline["measure"] == "regret of the obtained best temperature"].iloc[0]
    assert row["beside"].startswith("2.72 points against")


def test_cells_that_lack_dense_seeds_are_not_ranked(published):
    """At a density, only means over the same dense networks say which temperature is best."""
    cells = obtained_cells(published)
    cells = cells[(cells["density"] == 0.05) & cells["temperature"].isin([20, 40, 80, 160])].copy()
    cells["test_error"] += 0.1 * (cells["dense_seed"] == 3)
    part = cells[(cells["temperature"] != 160) | (cells["dense_seed"] < 3)]
    card = score(published, part)
    regret = "regret of the obtained best temperature"
    whole = score(published, cells[cells["temperature"] != 160])
    assert value(card, regret, "test_error") == value(whole, regret, "test_error") < 0.01
    ranks = "Spearman within density"
    assert value(card, ranks, "test_error") == pytest.approx(value(whole, ranks, "test_error"))


def test_a_reference_may_lack_normalised_errors(published, tmp_path):
    """Where its best temperature and a cell share no dense seed."""
    cells = obtained_cells(published, study="theirs")
    cells = cells[(cells["density"] == 0.05) & cells["temperature"].isin([20, 80, 160])]
    theirs = cells[(cells["temperature"] != 20) | (cells["dense_seed"] == 3)].copy()
    theirs = theirs[(theirs["temperature"] == 20) | (theirs["dense_seed"] != 3)]
    theirs.to_csv(tmp_path / "cells.csv", index=False)
    reference = references.of_export(tmp_path)
    card = scorecard.score(reference, seed_means.grid(cells))
    assert np.isfinite(value(card, "regret of the obtained best temperature", "test_error"))


def test_dense_scores_of_translation_are_not_called_accuracy(published):
    other = obtained_cells(published, study="captions", dataset="multi30k-de-en")
    card = score(published, pd.concat([obtained_cells(published), other], ignore_index=True))
    said = card.headline[card.headline["study"] == "captions"]["measure"].tolist()
    assert "dense BLEU / 100 on the validation pairs" in said and not any("accuracy" in each for each in said)


def test_one_temperature_and_one_seed_give_no_rank(published):
    cells = obtained_cells(published, seeds=(1,))
    cells = cells[(cells["temperature"] == 160) & (cells["density"] == 0.05)].copy()
    inside = score(published, cells)
    assert inside.cells.set_index("panel").loc["lmc", "within"].isna().all(), "without an interval nothing is judged"
    assert "1 of 1 values lie within the digitising bounds; no cell has an interval" in to_markdown(inside)
    cells["lmc"] -= 0.1
    card = score(published, cells)
    run = card.cells[card.cells["status"] == "obtained"].set_index("panel")
    assert run.loc["lmc", "within"] is pd.NA and np.isnan(run.loc["lmc", "se"])
    assert np.isnan(value(card, "Spearman within density", "lmc"))
    assert np.isnan(value(card, "regret of the obtained best temperature", "test_error"))
    assert "needs two temperatures" in to_markdown(card)


def test_a_miss_of_one_seed_counts_as_a_hit_does(published):
    """With one dense seed, cells inside the bounds would otherwise be the only ones that count."""
    card = score(published, obtained_cells(published, seeds=(1,)).assign(lmc=lambda cells: cells["lmc"] - 0.05))
    assert card.cells["within"].isna().all()
    assert "0 of 144 values lie within the digitising bounds" in to_markdown(card)


def test_normalised_errors_are_of_the_references_temperatures(published):
    """A temperature that the figure lacks may be better than all of it."""
    cells = obtained_cells(published)
    colder = cells[cells["temperature"] == 160].assign(temperature=200.0, test_error=0.05)
    both = pd.concat([cells, colder], ignore_index=True)
    alone, beside = (score(published, each).cells for each in (cells, both))
    alone, beside = (each[each["panel"] == "normalised_test_error"] for each in (alone, beside))
    assert beside["difference"].to_numpy() == pytest.approx(alone["difference"].to_numpy())
    assert alone["within"].notna().any() and beside["within"].isna().all(), "intervals are those of other differences"


def test_a_shift_beyond_the_uncertainty_is_flagged(published):
    card = score(published, obtained_cells(published).assign(lmc=lambda cells: cells["lmc"] - 0.05))
    assert not card.cells.loc[card.cells["panel"] == "lmc", "within"].any()
    assert value(card, "mean absolute difference", "lmc") == pytest.approx(0.05)
    assert "0.0500" in to_markdown(card) and "* |" in to_markdown(card)


def test_the_same_shift_within_the_uncertainty_is_not(published):
    noisy = obtained_cells(published, noise=0.05).assign(lmc=lambda cells: cells["lmc"] - 0.05)
    card = score(published, noisy)
    assert card.cells.loc[card.cells["panel"] == "lmc", "within"].all()


def test_cells_whose_spread_is_one_seeds_are_marked(published):
    cells = obtained_cells(published)
    assert "‡ |" not in to_markdown(score(published, cells))
    at = (cells["temperature"] == 40) & (cells["density"] == 0.05) & (cells["dense_seed"] == 2)
    cells.loc[at, "lmc"] -= 0.5
    card = score(published, cells)
    marked = card.cells.dropna(subset=["one_seed"])
    assert marked[["panel", "temperature", "density", "one_seed"]].to_numpy().tolist() == [["lmc", 40, 0.05, 2]]
    assert to_markdown(card).count("‡ |") == 1


def test_imported_cells_are_marked(published):
    cells = obtained_cells(published)
    cells.loc[cells["temperature"] == 160, "origin"] = "imported"
    card = score(published, cells)
    assert set(card.cells.loc[card.cells["temperature"] == 160, "status"]) == {"imported"}
    assert "†" in to_markdown(card)
    assert "9 of them imported" in card.headline["note"].tolist()


@pytest.mark.parametrize(("error", "verdict"), [(0.085, "inside"), (0.12, "outside"), (0.05, "outside")])
def test_dense_accuracy_is_held_against_the_expected_window(published, error, verdict):
    cells = obtained_cells(published)
    cells["dense_test_error"] = np.where(cells["temperature"] == 160, error, 0.5)
    row = score(published, cells).headline.query("measure == 'dense test accuracy'").iloc[0]
    assert row["value"] == pytest.approx(1 - error) and row["beside"].endswith(verdict)


def test_dense_accuracy_of_another_training_has_no_window(published):
    cells = obtained_cells(published)
    for deviating, window in (
        ("dense_seeds is [1] instead of [1, 2, 3]", True),
        ("dense.epochs is 3 instead of 160", False),
        ("dataset.label_noise is 0.2 instead of none", False),
    ):
        card = scorecard.score(references.published(), seed_means.grid(cells), deviating=[deviating])
        row = card.headline.query("measure == 'dense test accuracy'").iloc[0]
        assert row["beside"].startswith("expected") == window


def test_label_noise_deviates_from_the_published_protocol():
    paper = load([ROOT / "config.yaml"]).studies[figure2.FIGURE2_STUDY].model_dump(mode="json")
    noisy = {**paper, "dataset": {**paper["dataset"], "label_noise": 0.2}}
    assert scorecard.deviations(noisy, figure2.protocol()) == ["dataset.label_noise is 0.2 instead of none"]


def test_dense_accuracy_needs_the_default_temperature(published):
    cells = obtained_cells(published)
    measured = cells.assign(dense_test_error=cells["dense_test_error"].mask(cells["temperature"] == 160))
    for part in (measured, cells[cells["temperature"] == 10].assign(dense_test_error=0.23)):
        row = score(published, part).headline.query("measure == 'dense test accuracy'").iloc[0]
        assert np.isnan(row["value"]) and "160 was not run" in row["note"]


def test_other_studies_have_no_published_numbers_and_are_told_so(published):
    other = obtained_cells(published, study="svhn-preresnet20-epochs", dataset="svhn")
    card = score(published, other)
    assert set(card.cells["status"]) == {"not run"}
    assert scorecard.NO_PUBLISHED_NUMBERS in card.headline["measure"].tolist()
    text = to_markdown(card)
    assert "There are no published numbers for this study" in text and "no expected window" in text
    assert "144 of 144 published cells" in text


def test_cells_with_nothing_measured_count_as_not_run(published):
    empty = obtained_cells(published)
    empty[[*seed_means.METRICS]] = np.nan
    card = score(published, empty)
    assert set(card.cells["status"]) == {"not run"} and len(card.headline) == 1


def test_another_labs_export_can_be_scored(published, tmp_path):
    obtained_cells(published, study="theirs").to_csv(tmp_path / "cells.csv", index=False)
    grid = seed_means.grid(seed_means.read_cells(tmp_path))
    card = scorecard.score(references.published(), grid, counterpart="theirs")
    assert set(card.cells["status"]) == {"obtained"} and set(card.headline["study"]) == {"theirs"}
    with pytest.raises(UserError, match="nowhere"):
        seed_means.read_cells(tmp_path / "nowhere")


def test_deviations_from_the_published_protocol_are_named():
    config = load([ROOT / "config.yaml"])
    paper = config.studies[figure2.FIGURE2_STUDY].model_dump(mode="json")
    assert scorecard.deviations(paper, figure2.protocol()) == []
    other = load([ROOT / "config.yaml", ROOT / "config" / "figure2-mini.yaml"])
    found = scorecard.deviations(other.studies[figure2.FIGURE2_STUDY].model_dump(mode="json"), figure2.protocol())
    assert "dataset.train_images is 2000 instead of all" in found
    assert "retrain.epochs is 3 instead of 160" in found
    assert "dense_seeds is [1] instead of [1, 2, 3]" in found
    grid = seed_means.grid(figure2.as_cells(figure2.load()))
    card = scorecard.score(references.published(), grid, deviating=found)
    assert "retrain.epochs is 3 instead of 160" in to_markdown(card)


def test_what_no_setting_changes_is_said_after_the_deviations(published):
    reference = references.published()
    card = scorecard.score(reference, seed_means.grid(obtained_cells(published)), deviating=["x is 1 instead of 2"])
    rows = card.headline[card.headline["measure"].isin([scorecard.DEVIATION, scorecard.IN_EVERY_RUN])]
    assert rows["note"].tolist() == ["x is 1 instead of 2", *figure2.differences()]
    said = " ".join(figure2.differences())
    assert "TF32" in said and "retraining stream" in said and "not known" in said
    nothing = scorecard.score(reference, seed_means.grid(obtained_cells(published)).iloc[:0])
    assert scorecard.IN_EVERY_RUN not in set(nothing.headline["measure"])


@pytest.mark.parametrize("text", ["studies: [a]", "studies: a"])
def test_a_file_that_is_no_configuration_of_a_run_is_named(tmp_path, published, text):
    obtained_cells(published).to_csv(tmp_path / "cells.csv", index=False)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml is not the config\.yaml of a run"):
        scorecard.of_export(tmp_path)


def test_the_scorecard_of_a_folder_equals_the_one_of_its_table(tmp_path, published):
    folder = tmp_path / "export"
    (folder / STUDY).mkdir(parents=True)
    cells = obtained_cells(published)
    cells.to_csv(folder / STUDY / "cells.csv", index=False)
    whole = scorecard.of_export(folder)
    expected = scorecard.score(references.published(), seed_means.grid(seed_means.read_cells(folder)))
    pd.testing.assert_frame_equal(whole.headline, expected.headline)
    config = load([ROOT / "config.yaml", ROOT / "config" / "figure2-mini.yaml"]).model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "retrain.epochs is 3 instead of 160" in to_markdown(scorecard.of_export(folder))
    of_table = scorecard.of_export(folder / STUDY / "cells.csv")
    assert to_markdown(of_table) == to_markdown(scorecard.of_export(folder)), "its settings are found, too"
    assert scorecard.DEVIATION in set(scorecard.of_export(folder / STUDY).headline["measure"])
