"""Why a target would run."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import Checkout
from finished import copied, inside, tiny

from three_regime.errors import UserError
from three_regime.explain import explain, render

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
        with pytest.raises(UserError, match="nonsense is no result of the planned studies"):
            explain(config, "nonsense")


def test_a_missing_file_is_named(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        (CELL / "replica1/retrained.safetensors").unlink()
        text = render(explain(tiny(), "retrained"))
    assert "1 of 8 results would be computed" in text
    assert "replica1/retrained.safetensors is missing" in text
