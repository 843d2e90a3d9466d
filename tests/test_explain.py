"""Why a target would run."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import Checkout
from finished import FILES, OPTIONS, copied, inside, tiny

from three_regime import light_explained
from three_regime.config import Config, load
from three_regime.errors import UserError
from three_regime.explain import explain, render
from three_regime.light_explained import LightFinding, explain_light
from three_regime.stages import STAGES, TABLES_VERSION

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
        with pytest.raises(UserError, match="nonsense is no result, table or figure of the planned studies; unknown"):
            explain(config, "nonsense")


def test_a_missing_file_is_named(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        (CELL / "replica1/retrained.safetensors").unlink()
        text = render(explain(tiny(), "retrained"))
    assert "1 of 8 results would be computed" in text
    assert "replica1/retrained.safetensors is missing" in text


def light(config: Config, target: str | None = None) -> list[LightFinding]:
    return explain_light(config, target, explain(config, target))


TARGETS = ("data", "tables", "figures", "report", "tiny", "tiny_tables", "tiny_figures")
LIGHT_FILES = tuple(Path("results/tiny") / name for name in ("tiny/cells.csv", "tiny/figures/lmc.pdf", "report.html"))


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, *TARGETS, *map(str, LIGHT_FILES), "data/digits.safetensors"])
def test_of_a_complete_run_no_job_would_run_again(complete_tiny: Checkout, target: str | None) -> None:
    """That Snakemake made all of it shows that settings and inputs are read here as its rules do."""
    with inside(complete_tiny):
        config = load(FILES)
        findings, found = explain(config, target), light(config, target)
        assert found and [each for each in found if each.reasons] == []
        assert all(each.recorded for each in found if each.job.rule != "prepare")
        assert all(finding.done for finding in findings)
        assert {finding.product.stage for finding in findings} == (set() if "data" in str(target) else set(STAGES))
        assert "0 of " in render(findings, found)


EDITS = {
    "a threshold": ("regimes: {lmc: -0.05}", ()),
    "a claim": ("studies: {tiny: {claims: []}}", ()),
    "a table deleted": ("{}", ("tiny/grid.csv",)),
    "a figure deleted": ("{}", ("tiny/figures/cka.png",)),
    "a result deleted": ("{}", ("tiny/seed1/epochs004/density010/pair1-2/cka.json",)),
    "a setting of the results": ("studies: {tiny: {measure: {points: 5}}}", ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_the_jobs_are_those_that_a_dry_run_plans(complete_tiny: Checkout, tmp_path: Path, edit: str) -> None:
    settings, deleted = EDITS[edit]
    own = copied(complete_tiny, tmp_path / "own")
    (own.path / "edit.yaml").write_text(settings)
    for name in deleted:
        (own.path / "results" / "tiny" / name).unlink()
    planned = own.planned(*OPTIONS, "edit.yaml")
    with inside(own):
        told = [each.name for each in light(load([*FILES, Path("edit.yaml")])) if each.reasons]
    assert sorted(told) == sorted(rule for rule in planned if rule.split("_")[0] not in STAGES)
    assert bool(told) == (edit != "a result deleted"), "it is not missed before it is asked for by name"


def test_a_changed_threshold_is_told_from_what_to_what(complete_tiny: Checkout) -> None:
    with inside(complete_tiny):
        config = load(FILES)
        edited = config.model_copy(update={"regimes": config.regimes.model_copy(update={"lmc": -0.05})})
        findings = explain(edited, str(LIGHT_FILES[1]))
        text = render(findings, explain_light(edited, str(LIGHT_FILES[1]), findings))
    assert "nothing would be computed" in text
    assert f"regimes_tiny: changed: regimes.lmc from {config.regimes.lmc} to -0.05" in text
    assert "draw_tiny: made from results/tiny/tiny/grid.csv, which is to be made" in text


def test_tables_of_another_version_are_made_again(complete_tiny: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_explained, "TABLES_VERSION", TABLES_VERSION + 1)
    with inside(complete_tiny):
        findings = explain(tiny(), "tables")
        text = render(findings, explain_light(tiny(), "tables", findings))
    assert "cells_tiny: changed: the version of tables" in text


def test_what_has_no_record_is_said_to_be_unknown(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        findings = explain(tiny(), "tables")
        text = render(findings, explain_light(tiny(), "tables", findings))
    assert "nothing would be computed: all 22 results are up to date" in text
    assert "regimes_tiny: results/tiny/tiny/grid.csv is missing, and 6 more" in text
    assert "of 1 others Snakemake has no record" in text, "the tables of cells, which were written without it"


def test_a_result_that_is_not_missed_is_told(complete_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(complete_tiny, tmp_path / "own")
    with inside(own):
        (CELL / "pair1-2/cka.json").unlink()
        findings = explain(tiny(), "tables")
        text = render(findings, explain_light(tiny(), "tables", findings))
    assert "1 of 22 results would be computed" in text
    assert "1 results that tables were made from are missing: Snakemake makes them where they or" in text
