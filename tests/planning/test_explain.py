"""Explanations of why a target would be computed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import Checkout
from finished import copied, inside, tiny

from three_regime.config import merge, resolve
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.planning.explain import explain, render, studies_behind, unprepared

CELL = Path("results/tiny/tiny/seed1/epochs004/density010")


def test_a_finished_study_needs_nothing(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        findings = explain(tiny())
    assert all(finding.done for finding in findings)
    assert "nothing would be computed" in render(findings)


def test_a_changed_setting_is_told_from_what_to_what(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        changed = tiny(retrain={"epochs": 3, "milestones": [2], "learning_rate": 0.05})
        findings = explain(changed, str(CELL / "pair1-2/lmc.json"))
    assert [finding.product.stage for finding in findings] == ["dense", "prune", "retrain", "retrain", "lmc"]
    assert [finding.done for finding in findings] == [True, True, False, False, False]
    text = render(findings)
    assert "training.learning_rate from 0.1 to 0.05" in text
    assert "which is not up to date" in text


def test_targets_select(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        config = tiny()
        assert {finding.product.stage for finding in explain(config, "landscape")} == {"lmc", "cka"}
        assert {finding.product.stage for finding in explain(config, "prune")} == {"prune"}
        assert len(explain(config, "tiny")) == len(explain(config))
        with pytest.raises(
            UserError, match="nonsense is not a result, table or figure of the planned studies; unknown"
        ):
            explain(config, "nonsense")


def test_any_file_of_a_run_is_explained(finished_tiny: Checkout) -> None:
    """By its absolute path too; the record of discarded weights, and the settings, which depend on no result."""
    with inside(finished_tiny):
        config = tiny(keep="none")
        result = CELL / "pair1-2/lmc.json"
        assert [each.product.label for each in explain(config, str(result.absolute()))] == [
            each.product.label for each in explain(config, str(result))
        ]
        assert len(explain(config, "results/tiny/tiny/seed1/epochs004/discarded.json")) == 22
        assert explain(config, "results/tiny/config.yaml") == []


def test_a_preset_taken_for_a_target_is_told_where_to_go(finished_tiny: Checkout) -> None:
    with inside(finished_tiny), pytest.raises(UserError, match=r"Planned: tiny; for another preset give --configfile"):
        explain(tiny(), "figure2-mini")


def test_without_the_data_a_finished_study_stays_finished(finished_tiny: Checkout, tmp_path: Path) -> None:
    """As for Snakemake; new settings need the data again."""
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        shutil.rmtree("data")
        assert all(finding.done for finding in explain(tiny()))
        changed = tiny(retrain={"epochs": 3, "milestones": [2], "learning_rate": 0.05})
        assert {finding.product.stage for finding in explain(changed) if not finding.done} == {"retrain", "lmc", "cka"}


def test_a_missing_file_is_named(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        (CELL / "replica1/retrained.safetensors").unlink()
        text = render(explain(tiny(), "retrained"))
    assert "1 of 8 results would be computed" in text
    assert "replica1/retrained.safetensors is missing" in text


FIGURE, TABLE = Path("results/tiny/tiny/figures/lmc.pdf"), Path("results/tiny/tiny/cells.csv")
OVER_ALL = tuple(
    Path("results/tiny") / name for name in ("report.html", "explorer.html", "scorecard.md", "case_studies/sam.csv")
)


@pytest.mark.parametrize("path", [TABLE, FIGURE, *OVER_ALL])
def test_behind_a_table_stands_every_result_of_its_studies(finished_tiny: Checkout, path: Path) -> None:
    with inside(finished_tiny):
        assert [study.name for study in studies_behind(tiny(), path)] == ["tiny"]
        assert explain(tiny(), str(path)) == explain(tiny())


def test_behind_a_grid_over_another_load_stand_its_studies() -> None:
    whole = tiny().model_dump(mode="json", exclude_unset=True)
    noisy = merge(whole["studies"]["tiny"], {"dataset": {"label_noise": 0.4}})
    grid = {"load": "label_noise", "density": 0.1, "studies": ["tiny", "noisy"]}
    joined = {"run": ["tiny", "noisy", "other"], "load_grids": {"noise": grid}}
    config = resolve(merge(whole, {**joined, "studies": {"noisy": noisy, "other": noisy}}))
    for name in ("grid.csv", "figures/lmc.png"):
        behind = studies_behind(config, Path("results/tiny/noise") / name)
        assert behind and [study.name for study in behind] == ["tiny", "noisy"]


@pytest.mark.parametrize("path", ["results/tiny/published/grid.csv", "results/tiny/published/figures/cka.png"])
def test_behind_the_published_figure_stands_none(finished_tiny: Checkout, path: str) -> None:
    with inside(finished_tiny):
        assert render(explain(tiny(), path)) == "nothing would be computed\n"


@pytest.mark.parametrize("path", ["results/tiny/tiny/nosuch.csv", "results/tiny/nosuch.html"])
def test_what_is_no_table_or_figure_is_refused(finished_tiny: Checkout, path: str) -> None:
    with (
        inside(finished_tiny),
        pytest.raises(UserError, match="is not a result, table or figure of the planned studies"),
    ):
        explain(tiny(), path)


def test_data_of_another_version_would_be_prepared(
    finished_tiny: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inside(copied(finished_tiny, tmp_path / "own")):
        assert unprepared(tiny(), "data") == []
        assert unprepared(tiny(), "retrained") == [], "results only"
        monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], version=99))
        (line,) = unprepared(tiny(), "data")
        assert line.startswith("data/digits.safetensors would be prepared")
        assert render(explain(tiny(), "data"), [line]) == f"{line}\n"
