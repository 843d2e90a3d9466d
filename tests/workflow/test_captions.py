"""Captions of the report say what is measured in each setting."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from checkout import ROOT
from jinja2 import Environment, StrictUndefined

from three_regime.settings import SETTINGS, setting_of
from three_regime.study.outputs import GRID_FIGURES, LAYER_FIGURES, LOAD_GRID_FIGURES, MEASURE_TABLES, RUN_FIGURES

FIGURES = sorted({*GRID_FIGURES, *LOAD_GRID_FIGURES, *RUN_FIGURES, *LAYER_FIGURES, *MEASURE_TABLES, "measure"})
OF_ERRORS = {"test_error", "normalised_test_error", "error_against_density", "error_against_load", "seeds",
             "model_selection", "phase_diagram"}  # fmt: skip


def caption(figure: str, kind: str) -> str:
    """As Snakemake renders it, with the params of the rule that draws the figure."""
    thresholds = {"lmc": -0.12, "cka": 0.99, "inherited": ""}
    params = SimpleNamespace(folder="", figures=[figure], thresholds=thresholds, words=setting_of(kind).caption_words)
    text = (ROOT / "rules" / "captions" / f"{figure}.rst").read_text(encoding="utf-8")
    shown = Environment(undefined=StrictUndefined).from_string(text).render(snakemake=SimpleNamespace(params=params))
    return " ".join(shown.split())


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_caption_can_be_rendered(kind: str) -> None:
    assert all(caption(figure, kind)[-1] == "." for figure in FIGURES)


def test_translation_has_no_words_of_images() -> None:
    for figure in FIGURES:
        shown = caption(figure, "text")
        assert not [word for word in ("BatchNorm", "image", "last epochs") if word in shown], figure
        assert ("100 − BLEU on the validation pairs" in shown) == (figure in OF_ERRORS)
        assert "est error" not in shown or figure == "measure"
    for figure in ("lmc", "lmc_lines", "planes"):
        assert "training token error" in caption(figure, "text")
        assert "token" not in caption(figure, "images")


def test_images_are_measured_as_the_paper_does() -> None:
    assert "test error, mean over the last epochs of retraining, averaged over" in caption("test_error", "images")
    assert "first training images, each with its own BatchNorm statistics" in caption("cka", "images")
    for figure in ("lmc", "planes"):
        assert "BatchNorm are re-estimated at every point" in caption(figure, "images")


def test_a_single_dense_seed_decides_by_distance() -> None:
    for name in ("phase_diagram", "regimes"):
        assert "one dense seed, by the distance from the thresholds" in caption(name, "images")
