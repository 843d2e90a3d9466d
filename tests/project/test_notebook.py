"""The notebook of the site shows what its cells compute."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import matplotlib
import notebook as notebooks
import numpy as np
import pytest
from checkout import ROOT
from PIL import Image

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    """What is printed and shown, as text."""
    return ["".join(output.get("text") or output["data"]["text/plain"]) for output in outputs]


def pixels(outputs: list[dict[str, Any]]) -> list[np.ndarray]:
    """The figures, in gray."""
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("L"), float) for each in pictures]


def test_its_cells_give_the_outputs_that_it_shows(content: dict[str, Any]) -> None:
    with matplotlib.rc_context():
        executed = notebooks.execute(content)
    stored = [cell["outputs"] for cell in content["cells"] if cell["cell_type"] == "code"]
    assert [texts(outputs) for outputs in executed] == [texts(outputs) for outputs in stored]
    drawn, shown = ([each for outputs in found for each in pixels(outputs)] for found in (executed, stored))
    assert len(drawn) == len(shown) == 1
    for one, other in zip(drawn, shown, strict=True):
        assert one.shape == other.shape and np.abs(one - other).mean() < 2


def test_it_is_a_notebook_that_was_executed_in_order(content: dict[str, Any]) -> None:
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 4)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)
    kept = {"stream": {"name", "text"}, "display_data": {"data", "metadata"}}
    kept["execute_result"] = kept["display_data"] | {"execution_count"}
    for output in (output for cell in code for output in cell["outputs"]):
        assert set(output) == {"output_type", *kept[output["output_type"]]}
