"""The page on new questions and the preset mask-or-weights agree with the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from three_regime.config import load, measures, merge, resolve
from three_regime.config.measures import MEASURES
from three_regime.config.plugins import load as load_plugins
from three_regime.pruning.allocation import ALLOCATIONS
from three_regime.pruning.criteria import CRITERIA
from three_regime.study.grid import planned
from three_regime.study.outputs import FIGURE2_STUDY
from three_regime.study.products import pack

PAGE = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, flags=re.MULTILINE | re.DOTALL))


def test_the_page_has_all_there_is() -> None:
    for name in (*CRITERIA, *ALLOCATIONS, *MEASURES):
        assert f"| `{name}` |" in PAGE
    for measure in MEASURES.values():
        assert ", ".join(f"`{column.name}`" for column in measure.columns) in PAGE


def test_its_blocks_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "MEASURES", dict(MEASURES))
    (tmp_path / "norms.py").write_text(BLOCKS["norms.py"])
    asked = yaml.safe_load(BLOCKS["config/question.yaml"])
    whole = merge(yaml.safe_load((ROOT / "config.yaml").read_text()), asked)
    config = resolve(whole)
    assert config.studies["is-it-the-mask"].retrain.start == "reinitialised"
    before = dict(MEASURES)
    try:
        load_plugins([str(tmp_path / "norms.py")])
        assert [column.name for column in measures.measured_columns()["norm"][0].columns] == ["norm"]
    finally:
        MEASURES.clear()
        MEASURES.update(before)
        sys.modules.pop("norms", None)


def test_mask_or_weights_asks_of_the_same_dense_networks() -> None:
    """Nothing is trained twice: its first study has cells of figure2-cells, and the studies share dense networks."""
    known, asked = (
        planned(load([ROOT / "config.yaml", ROOT / "config" / f"{name}.yaml"]))
        for name in ("figure2-cells", "mask-or-weights")
    )
    assert asked[0].name == known[0].name == FIGURE2_STUDY
    for temperature in (80, 160):
        for stage in ("dense", "prune", "retrain", "lmc", "cka"):
            recipes = [[each.recipe for each in pack(study, stage, 1, temperature, 0.07 if stage != "dense" else None)]
                       for study in (known[0], asked[0])]  # fmt: skip
            assert recipes[0] == recipes[1]
        dense = [pack(study, "dense", 1, temperature)[0].recipe for study in asked]
        assert dense[0] == dense[1] == dense[2]
    assert sum(len(pack(study, "retrain", 1, t)) for study in asked[1:] for t in (80, 160)) == 8
    starts = [(study.config.prune.criterion, study.config.retrain.start) for study in asked]
    assert starts == [("magnitude", "pruned"), ("magnitude", "reinitialised"), ("random", "pruned")]
    assert all(claim.over == "replicas" for study in asked for claim in study.config.claims)
