"""Adding a data set takes one `ImageDataset`; every fingerprint has its pixel treatment, and it has its own version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from checkout import copy_to
from tiny_study import ALL, NAME, config, mapping, products, run, study_of

from three_regime.config import Config, resolve
from three_regime.datasets.registry import DATASETS, IMPLIED, ImageDataset
from three_regime.errors import UserError
from three_regime.jobs.run import Outcome
from three_regime.planning.explain import explain, render
from three_regime.preparation import prepare as preparing
from three_regime.study.products import pack
from three_regime.system.files import DIGEST_KEY, read_metadata

DIGITS = DATASETS["digits"]


def dense_recipe(**changes: object) -> dict:
    study = study_of(resolve(mapping(Path("anywhere"), **changes)))
    return pack(study, "dense", 1)[0].recipe


def test_shipped_data_sets_keep_their_treatment() -> None:
    images = {name: entry for name, entry in DATASETS.items() if isinstance(entry, ImageDataset)}
    assert set(IMPLIED) <= set(images)
    assert {name: images[name].treatment for name in IMPLIED} == IMPLIED
    assert "pixels" not in dense_recipe()


@pytest.mark.parametrize(
    ("key", "value"), [("mean", (0.3,)), ("std", (0.3,)), ("padding", 2), ("flip", True)]
)  # fmt: skip
def test_another_treatment_makes_results_stale_and_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, value: object
) -> None:
    settings = config(tmp_path, temperatures=[1], densities=[0.5])
    assert run(settings, "dense") == Outcome(1, 0)
    assert products(settings, "dense")[0].done
    monkeypatch.setitem(DATASETS, "digits", replace(DIGITS, **{key: value}))
    told = render(explain(settings, "dense"))
    assert not products(settings, "dense")[0].done
    assert f"pixels from nothing to {{'{key}': {list(value) if isinstance(value, tuple) else value}}}" in told
    assert all("pixels" in product.recipe for stage in ALL if stage != "prune" for product in products(settings, stage))
    monkeypatch.setitem(DATASETS, "digits", DIGITS)
    assert products(settings, "dense")[0].done


def test_a_new_data_set_records_its_treatment_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "mine", replace(DIGITS, name="mine"))
    assert dense_recipe(dataset={"name": "mine"})["pixels"] == DIGITS.treatment


@pytest.mark.parametrize("reader", ["nosuch_module:read", "three_regime.datasets.digits:raed"])
def test_a_misspelt_reader_is_named(tmp_path: Path, reader: str) -> None:
    for entry, arguments in ((DATASETS["digits"], ()), (DATASETS["toy"], ("test",))):
        with pytest.raises(UserError, match=f"^data set {entry.name}: {reader} cannot be imported: "):
            replace(entry, reader=reader).read(tmp_path, *arguments)


def test_a_raised_version_prepares_again_only_what_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = config(tmp_path, temperatures=[1], densities=[0.5])
    run(settings, "dense")
    before = read_metadata(study_of(settings).prepared)
    monkeypatch.setitem(DATASETS, "digits", replace(DIGITS, version=2))
    assert run(settings, "dense") == Outcome(0, 1)
    with pytest.raises(UserError, match=r"digits\.safetensors was prepared for another version of digits"):
        run(config_without_preparing(tmp_path), "dense")
    assert preparing.prepare("digits", tmp_path / "data")
    after = read_metadata(study_of(settings).prepared)
    assert after["fingerprint"] != before["fingerprint"] and after[DIGEST_KEY] == before[DIGEST_KEY]
    assert run(config_without_preparing(tmp_path), "dense") == Outcome(1, 1)


def config_without_preparing(folder: Path) -> Config:
    """One checkpoint more than there is."""
    return resolve(mapping(folder, temperatures=[1, 2], densities=[0.5]))


def test_versions_are_each_data_sets_own() -> None:
    raised = replace(DIGITS, version=2)
    assert (raised.version, DIGITS.version, DATASETS["cifar10"].version) == (2, 1, 1)
    assert preparing.recipe(resolve(mapping(Path("anywhere"))).studies[NAME].dataset)["version"] == 1


@pytest.mark.slow
def test_the_workflow_prepares_a_raised_version_again(tmp_path: Path) -> None:
    checkout = copy_to(tmp_path / "own")
    command = ("data", "--configfile", "config/tiny.yaml")
    checkout.run(*command)
    assert checkout.planned(*command) == {}
    entries = checkout.path / "three_regime" / "datasets" / "registry.py"
    note = '"8x8 handwritten digits bundled with scikit-learn; the offline default of the demo",'
    text = entries.read_text()
    assert text.count(note) == 1
    entries.write_text(text.replace(note, f"{note} version=2,"))
    assert checkout.planned(*command) == {"prepare": 1, "data": 1}
