"""Measures of plugins: what they may be named, what they return, and what their results depend on."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from tiny_study import config, mapping, products, run, run_to, study_of

from three_regime.analysis import tables
from three_regime.config import measures, resolve
from three_regime.config.knobs import KNOBS, Knob
from three_regime.config.measures import MEASURES, Column, Measure
from three_regime.errors import UserError
from three_regime.jobs.run import Outcome
from three_regime.study.verdicts import judge
from three_regime.system.files import read_json

SMALL = {"temperatures": [2], "densities": [0.1], "replicas": [1]}


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (Measure("cka", "pair", (), "own:of", ""), "measure 'cka': its name is that of a file"),
        (Measure("retrained", "replica", (), "own:of", ""), "measure 'retrained': its name is that of a file"),
        (Measure("../x", "replica", (), "own:of", ""), "measure '../x': its name is that of a file"),
        (Measure("own", "pair", (Column("lmc", ""),), "own:of", ""), "rename its column lmc: every table has one"),
        (Measure("own", "pair", (Column("distance", ""),), "own:of", ""), "distance: the measure distance has one"),
    ],
)
def test_files_and_columns_of_others_are_not_taken(measure, said):
    with pytest.raises(UserError, match=said):
        measures.register(measure)


def test_every_column_of_a_study_is_known_to_be_taken(tmp_path):
    found = tables.build(study_of(config(tmp_path)))
    columns = {column for name in ("cells", "replicas", "pairs") for column in found[name]}
    assert {each for each in columns if not each.endswith(measures.RESERVED)} - measures.TAKEN == set()


def test_the_measures_of_the_docs_measure(tmp_path, monkeypatch):
    page = (ROOT / "docs/questions.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', page, flags=re.MULTILINE | re.DOTALL))
    assert set(blocks) == {"norms.py", "confidence.py"}
    for name in ("norm", "norms", "confidence"):
        for registry in (MEASURES, sys.modules):
            monkeypatch.setitem(registry, name, None)  # removed again after the test
            del registry[name]
    for name, text in blocks.items():
        (tmp_path / name).write_text(text)
    plugins = {"plugins": [str(tmp_path / name) for name in blocks]}
    changes = {**SMALL, "replicas": [1, 2]}
    run_to(config(tmp_path, **changes), "retrain")
    settings = config(tmp_path, top=plugins, measure={"also": ["norm", "confidence"]}, **changes)
    assert run(settings, "measures") == Outcome(3, 0)
    found = tables.build(study_of(settings))["cells"]
    assert found["norm"][0] > 0 and 0 < found["confidence_gap"][0] < 1
    fewer = config(tmp_path, top=plugins, measure={"also": ["norm", "confidence"], "cka_images": 100}, **changes)
    assert [finding.done for finding in judge(study_of(fewer)) if finding.product.stage == "measures"] == [
        "norm" in finding.product.label for finding in judge(study_of(fewer)) if finding.product.stage == "measures"
    ]


def own(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Register the measure `own` of this module among the others."""
    measure = Measure("own", "replica", (Column("own", "own"),), f"{__name__}:own_value", "", **changes)
    monkeypatch.setitem(MEASURES, "own", measure)


def own_value(networks):
    return {"own": np.float32(networks.outputs(0)["softmax"].max()), "all": np.ones(2)}


def own_results(folder: Path) -> dict[str, Any]:
    run_to(config(folder, **SMALL), "retrain")
    settings = config(folder, measure={"also": ["own"]}, **SMALL)
    run(settings, "measures")
    (product,) = products(settings, "measures")
    return read_json(product.outputs[0])


def test_numpy_numbers_are_results_too(tmp_path, monkeypatch):
    own(monkeypatch, settings=measures.inputs_of_cka)
    assert own_results(tmp_path)["all"] == [1.0, 1.0]


def test_outputs_need_the_settings_of_their_inputs(tmp_path, monkeypatch):
    own(monkeypatch)
    with pytest.raises(UserError, match="measure own reads outputs, .* depend on images: register it with settings="):
        own_results(tmp_path)


def test_a_measure_names_a_column_that_it_does_not_return(tmp_path, monkeypatch):
    own(monkeypatch, settings=measures.inputs_of_cka)
    monkeypatch.setattr(sys.modules[__name__], "own_value", lambda networks: {"own": "high"})
    with pytest.raises(UserError, match="measure own: own is a str, not a number in the results of"):
        own_results(tmp_path)
    monkeypatch.delattr(sys.modules[__name__], "own_value")
    with pytest.raises(UserError, match=r"measure.also: own: .* has no function own_value"):
        resolve(mapping(tmp_path, measure={"also": ["own"]}))


def test_a_knob_that_the_optimiser_ignores_is_refused(monkeypatch):
    monkeypatch.setitem(KNOBS, "momentum", Knob("momentum", "momentum", "momentum", "momentum", 1, "higher", False))
    changes = {"knob": "momentum", "temperatures": [0.8, 0.9]}
    assert resolve(mapping(Path("anywhere"), **changes))
    with pytest.raises(UserError, match="knob: momentum changes nothing: the optimiser adam does not use momentum"):
        resolve(mapping(Path("anywhere"), dense={"optimiser": "adam"}, **changes))
