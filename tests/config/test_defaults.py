"""Defaults are limited to the available data; explicit settings beyond it are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from click.testing import CliRunner

from three_regime import cli
from three_regime.config import StudyConfig, load, resolve
from three_regime.config.measuring import CKA_TOKENS
from three_regime.errors import UserError
from three_regime.jobs import cka
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.preparation import parallel_text, subwords
from three_regime.system.files import write_arrays

IMAGES = {"dataset": "digits", "model": "preresnet-8x0.25", "knob": "epochs", "temperatures": [1], "densities": [0.5]}
TEXT = {**IMAGES, "dataset": "toy", "model": "transformer-1x16x2"}
SHORT = {"dense": {"epochs": 1}, "retrain": {"epochs": 3}}


def study(settings: dict[str, Any], **changes: Any) -> StudyConfig:
    """A study of nothing but what it must have, and `changes`."""
    return resolve({"run": ["a"], "studies": {"a": {**settings, **SHORT, **changes}}}).studies["a"]


def test_a_short_small_study_needs_no_measuring_settings() -> None:
    small = study(IMAGES)
    assert (small.measure.cka_images, small.measure.last_epochs) == (1437, 3)
    smaller = study(IMAGES, dataset={"name": "digits", "train_images": 50})
    assert smaller.measure.cka_images == 50


def test_iterations_are_counted_in_epochs_of_the_batch_in_use() -> None:
    few = {"name": "digits", "train_images": 50}
    dropping = {"iterations": 2, "drop_last": True}
    small = study(IMAGES, dataset=few, dense={"epochs": 1, "drop_last": True}, retrain=dropping)
    assert (small.dense.batch_size, small.retrain.batch_size, small.measure.last_epochs) == (50, 50, 2)


def test_a_study_of_text_needs_neither_batch_nor_measured_pairs() -> None:
    small = study(TEXT, dataset={"name": "toy", "train_pairs": 300})
    assert small.measure.train_pairs == 300
    assert small.dense.batch_size == small.retrain.batch_size == small.dataset.max_tokens + 1


@pytest.mark.parametrize(
    ("settings", "changes", "said"),
    [
        (IMAGES, {"measure": {"last_epochs": 5}}, "measure.last_epochs 5 exceeds the 3 epochs"),
        (IMAGES, {"measure": {"cka_images": 6464}}, "measure.cka_images 6464 exceeds the 1437"),
        (IMAGES, {"retrain": {"epochs": 3, "batch_size": 2000, "drop_last": True}}, "retrain.batch_size 2000 exceeds"),
        (TEXT, {"dataset": {"name": "toy", "train_pairs": 9}, "measure": {"train_pairs": 2000}}, "train_pairs 2000"),
        (TEXT, {"dense": {"epochs": 1, "batch_size": 64}}, "dense.batch_size 64 .tokens. is less than the 251"),
    ],
)
def test_what_was_written_is_refused(settings: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        study(settings, **changes)


@pytest.mark.parametrize("change", [{"retrain": {"epochs": 2, "milestones": []}}, {"dataset": "digits"}])
def test_a_preset_that_cuts_a_study_need_not_know_the_rest(tmp_path: Path, change: dict[str, Any]) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(f"run: [cifar10-preresnet20-epochs]\nstudies: {{cifar10-preresnet20-epochs: {change}}}\n")
    small = load([ROOT / "config.yaml", overlay]).studies["cifar10-preresnet20-epochs"]
    assert small.measure.last_epochs == min(5, small.retrain.epochs)
    assert small.measure.cka_images == min(6464, small.dataset.images)


def test_a_resolved_study_resolves_to_itself() -> None:
    """As it is written down beside results."""
    for settings in (IMAGES, {**TEXT, "dataset": {"name": "toy", "train_pairs": 300}}):
        assert resolve({"run": ["a"], "studies": {"a": study(settings).model_dump()}}).studies["a"] == study(settings)


@pytest.mark.parametrize(("asked", "taken"), [(CKA_TOKENS, 40), (CKA_TOKENS - 1, CKA_TOKENS - 1), (30, 30)])
def test_cka_takes_of_the_tokens_of_the_default_what_there_is(
    monkeypatch: pytest.MonkeyPatch, asked: int, taken: int
) -> None:
    counts = []
    task = SimpleNamespace(comparable=40, outputs=lambda weights, count: counts.append(count) or ())
    monkeypatch.setattr(cka, "task_of", lambda job: task)
    monkeypatch.setattr(cka, "measured_pairs", lambda job, task, measure: measure(task, None) or [])
    stop = SimpleNamespace(at_once=lambda: pytest.MonkeyPatch.context())
    job = SimpleNamespace(products=[SimpleNamespace(recipe={"tokens": asked})], study=study(TEXT), stop=stop)
    cka.compute(job)
    assert counts == [taken]


@pytest.mark.parametrize(("size", "learnt"), [(32_000, [32_000, 700, 500]), (31_999, [31_999])])
def test_a_small_text_has_fewer_subwords_than_the_default(
    monkeypatch: pytest.MonkeyPatch, size: int, learnt: list[int]
) -> None:
    """Only a large vocabulary spells rare characters in bytes, so that the largest possible one may fall twice."""
    tried = []

    def learn(sentences: object, size: int, name: str) -> bytes:
        tried.append(size)
        if size > 500:
            raise subwords.TooManySubwordsError("too large", 700 if size > 700 else 500)
        return b"model"

    monkeypatch.setattr(parallel_text, "learn", learn)
    choice = study(TEXT, dataset={"name": "toy", "subwords": size}).dataset
    if len(learnt) > 1:
        assert parallel_text._vocabulary(choice.entry, choice, Path()) == b"model"
    else:
        with pytest.raises(UserError, match="too large"):
            parallel_text._vocabulary(choice.entry, choice, Path())
    assert tried == learnt


def test_cka_by_hand_takes_all_images_where_there_are_fewer(tmp_path: Path) -> None:
    network = families.build("preresnet-8x0.25", classes=10, channels=1, image_size=8)
    first, second = (tmp_path / f"{name}.safetensors" for name in "AB")
    for seed, path in enumerate((first, second)):
        write_arrays(path, initial_weights(network, np.random.default_rng(seed)), {})
    options = ["--model", "preresnet-8x0.25", "--dataset", "digits", "--data", str(tmp_path)]
    out = tmp_path / "cka.json"
    ended = CliRunner().invoke(cli.main, ["cka", str(first), str(second), *options, "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert '"images": 1437' in out.read_text()
