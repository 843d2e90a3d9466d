"""Names of rules: the lists are those of the workflow, and names that collide are refused by their key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checkout import ROOT
from tiny_study import STUDY, mapping
from written_corpus import STUDY as TEXT

from three_regime.config import resolve, rule_names
from three_regime.errors import UserError
from three_regime.study.stages import COLLECTIONS
from three_regime.workflow.rule_parts import rule_name

SNAKEFILES = "\n".join(path.read_text() for path in (ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))))
OF_SOME = {"measures", "claims", "discard"}


def test_the_lists_are_those_of_the_workflow() -> None:
    assert set(re.findall(r"^\s*rule (\w+):", SNAKEFILES, flags=re.MULTILINE)) == set(rule_names.FIXED)
    named = set(re.findall(r"""(?:rule_name\(|stage_rule\(study, )"(\w+)\"""", SNAKEFILES))
    assert named == {*rule_names.STAGES, *rule_names.GRID_STAGES, *OF_SOME, "prepare"}
    assert set(rule_names.TARGETS) == {*COLLECTIONS, "tables", "figures"}
    assert '["", *COLLECTIONS, "tables", "figures"]' in SNAKEFILES


def test_rules_of_a_study_are_named_as_the_workflow_does() -> None:
    plain = resolve(mapping(Path("anywhere"))).studies["tiny"]
    every = plain.model_copy(update={"keep": "none", "claims": ("any",), "measure": plain.measure.model_copy(
        update={"also": ("distance",)})})  # fmt: skip
    found = set(rule_names.of_study("two-words", every))
    assert {rule_name(stage, "two-words") for stage in (*rule_names.STAGES, *OF_SOME)} <= found
    assert found - set(rule_names.of_study("two-words", plain)) == {f"{stage}_two_words" for stage in OF_SOME}


def running(*names: str, **study: object) -> dict:
    top = {"run": list(names), "studies": {name: {**STUDY, **study} for name in names}}
    return mapping(Path("anywhere"), top=top)


@pytest.mark.parametrize("name", ["published", "all", "tables", "case-studies", "regimes-published"])
def test_a_study_is_not_named_like_a_rule(name: str) -> None:
    with pytest.raises(UserError, match=f"studies.{name}: its rule .* of the workflow itself; choose another"):
        resolve(running(name))
    free = running("tiny") | {"studies": {"tiny": STUDY, name: STUDY}}
    assert resolve(free).run == ("tiny",), "what is not run has no rules"


@pytest.mark.parametrize(
    ("first", "second", "rule"), [("a", "a-dense", "a_dense"), ("tiny", "retrain-tiny", "retrain_tiny")]
)
def test_two_studies_do_not_share_a_rule(first: str, second: str, rule: str) -> None:
    with pytest.raises(UserError, match=f"studies.{second}: its rule {rule} .* of studies.{first}; choose another"):
        resolve(running(first, second))


def test_a_rule_that_a_study_does_not_have_is_free() -> None:
    assert resolve(running("tiny", "discard-tiny")).run == ("tiny", "discard-tiny")
    with pytest.raises(UserError, match="studies.discard-tiny: .* discard_tiny"):
        resolve(running("tiny", "discard-tiny", keep="none"))
    with pytest.raises(UserError, match="studies.download-cifar10: .* download_cifar10"):
        resolve(running("download-cifar10"))


def own_texts(*folders: str) -> dict:
    """A configuration of one study for each folder of own text."""
    choices = [{"name": "text-files", "files": folder, "languages": ["de", "en"]} for folder in folders]
    named = {f"study{number}": {**TEXT, "dataset": choice} for number, choice in enumerate(choices)}
    return {"run": list(named), "studies": named}


@pytest.mark.parametrize("folder", ["/x/My Corpus.v1", "/x/a-b", "/x/1 (new)", "/x/µ²", "/x/Größe+"])
def test_rules_of_own_text_are_identifiers(folder: str) -> None:
    (study,) = resolve(own_texts(folder)).studies.values()
    assert rule_name("prepare", study.dataset.folder).isidentifier()
    assert study.dataset.folder == f"{Path(folder).name}-de-en-all-{study.dataset.subwords}"


@pytest.mark.parametrize(("first", "second"), [("a-b", "a_b"), ("My Corpus", "My.Corpus")])
def test_two_data_sets_do_not_share_a_rule(first: str, second: str) -> None:
    with pytest.raises(
        UserError, match=r"studies\.study1\.dataset and studies\.study0\.dataset: .*prepare_"
    ) as refused:
        resolve(own_texts(f"/x/{first}", f"/x/{second}"))
    assert f" {second}-de-en-all-" in str(refused.value) and f" {first}-de-en-all-" in str(refused.value)
    assert resolve(own_texts(f"/x/{first}", f"/x/{first}", "/x/c")).run, "studies may share a data set"
