"""Configuration of text data sets: defaults, keys of images, shared folders, fingerprints."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from written_corpus import STUDY

from three_regime.config import DatasetChoice, resolve
from three_regime.errors import UserError
from three_regime.preparation.prepare import chosen, recipe
from three_regime.study.grid import planned, prepared_path
from three_regime.workflow.rule_parts import settings_fingerprint

FIRST = {"name": "toy", "train_pairs": 1000, "subwords": 500}


def studies(*datasets: dict[str, Any]) -> dict[str, Any]:
    named = {f"study{number}": {**STUDY, "dataset": dataset} for number, dataset in enumerate(datasets)}
    return {"run": list(named), "studies": named}


def test_defaults_are_filled_in_for_text_alone() -> None:
    text, images = DatasetChoice(name="wmt14-de-en"), DatasetChoice(name="cifar10")
    assert (text.subwords, text.max_tokens, text.ratio, text.train_pairs) == (32_000, 250, 2.0, None)
    assert (images.subwords, images.max_tokens, images.ratio) == (None, None, None)
    for choice in (text, images):
        assert DatasetChoice(**choice.model_dump()) == choice


def test_paths_can_be_read(tmp_path: Path) -> None:
    for settings, folder in (
        (FIRST, "toy-1000-500"),
        ({"name": "wmt14-de-en"}, "wmt14-de-en-all-32000"),
        ({"name": "wmt14-de-en", "train_pairs": 160_000, "validation_pairs": 10}, "wmt14-de-en-160000-32000"),
    ):
        assert prepared_path(DatasetChoice(**settings), tmp_path) == tmp_path / folder / "prepared.safetensors"
    assert prepared_path(DatasetChoice(name="digits"), tmp_path) == tmp_path / "digits.safetensors"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"name": "toy", "train_images": 10}, "train_images does not apply to toy, which holds text"),
        ({"name": "toy", "test_images": 10}, "test_images does not apply to toy, which holds text"),
        ({"name": "digits", "subwords": 500}, "subwords does not apply to digits, which holds images"),
        ({"name": "digits", "train_pairs": 500}, "train_pairs does not apply to digits"),
        ({"name": "digits", "ratio": 2}, "ratio does not apply to digits"),
        ({"name": "toy", "train_pairs": 20_001}, "train_pairs is 20001, but toy has 20000"),
        ({"name": "toy", "test_pairs": 301}, "test_pairs is 301, but toy has 300"),
        ({"name": "toy", "subwords": 7}, "subwords: must be at least 8"),
        ({"name": "toy", "ratio": 1}, "ratio: must be greater than 1"),
        ({"name": "toy", "subword": 8}, "subword: unknown key; did you mean 'subwords'"),
        ({"name": "text-files", "files": "mine", "languages": ["zh-cn", "en"]}, "language 'zh-cn': .* as in zh_CN"),
        ({"name": "wmt14"}, "unknown data set 'wmt14'; did you mean 'wmt14-de-en'"),
    ],
)
def test_faults_name_the_key(dataset: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"config\.studies\.study0\.dataset.*{message}"):
        resolve(studies(dataset))


def test_studies_that_share_a_folder_clean_alike() -> None:
    other = {**FIRST, "ratio": 3}
    with pytest.raises(
        UserError, match=r"studies\.study1\.dataset\.ratio is 3 and studies\.study0\.dataset\.ratio is 2"
    ):
        resolve(studies(FIRST, other))
    whole = studies(FIRST, {**other, "subwords": 501}, {**FIRST, "validation_pairs": 9})
    folders = [study.prepared.parent.name for study in planned(resolve(whole))]
    assert folders == ["toy-1000-500", "toy-1000-501", "toy-1000-500"]
    whole = studies(FIRST, other)
    assert resolve({**whole, "run": ["study1"]}).studies["study1"].dataset.ratio == 3


def test_two_corpora_do_not_share_a_folder() -> None:
    """`multi30k` with German and English has the folder of the data set multi30k-de-en, which is kept."""
    own = {"name": "text-files", "files": "corpora/multi30k", "languages": ["de", "en"]}
    folder = "multi30k-de-en-all-32000"
    for other, named in (
        ({"name": "multi30k-de-en"}, "multi30k-de-en"),
        ({**own, "files": "/x/multi30k"}, "/x/multi30k"),
    ):
        with pytest.raises(UserError) as refused:
            resolve(studies(other, own))
        said = str(refused.value)
        assert f"studies.study1.dataset is corpora/multi30k and studies.study0.dataset is {named}" in said
        assert said.endswith(f"both would be prepared in the folder {folder}; rename the folder corpora/multi30k")
    with pytest.raises(UserError, match="rename the folder corpora/multi30k"):
        resolve(studies(own, {"name": "multi30k-de-en"}))
    assert planned(resolve(studies(own)))[0].prepared.parent.name == folder, "alone it stays as it was"


def test_a_resolved_configuration_resolves_to_itself() -> None:
    config = resolve(studies(FIRST))
    assert resolve(config.model_dump(mode="json")) == config


def test_the_recipe_holds_exactly_what_changes_the_files() -> None:
    base = DatasetChoice(**FIRST)
    assert chosen(recipe(base)) == base
    changes: dict[str, Any] = {
        "train_pairs": 999,
        "subwords": 499,
        "max_tokens": 99,
        "ratio": 1.9,
        "name": "wmt14-de-en",
    }
    recipes = [recipe(base), *(recipe(DatasetChoice(**{**FIRST, key: value})) for key, value in changes.items())]
    assert all(one != other for one, other in itertools.combinations(recipes, 2))
    assert recipe(DatasetChoice(**FIRST, validation_pairs=9, test_pairs=9)) == recipe(base)
    assert recipe(DatasetChoice(name="digits", train_images=9)) == recipe(DatasetChoice(name="digits"))


def test_a_rule_notices_other_cleaning_and_other_held_out_pairs() -> None:
    variants = [FIRST, {**FIRST, "ratio": 3}, {**FIRST, "validation_pairs": 9}]
    found = [planned(resolve(studies(dataset)))[0] for dataset in variants]
    assert len({settings_fingerprint(study, "retrain", 1) for study in found}) == 3
