"""The RO-Crate description of exports, read by the rocrate package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from checkout import ROOT, Checkout
from finished import copied, inside, tiny
from rocrate.rocrate import ROCrate

from three_regime.errors import UserError
from three_regime.exchange import research_object
from three_regime.exchange.export import MANIFEST, export
from three_regime.exchange.research_object import METADATA, WORKFLOW
from three_regime.system import manifest
from three_regime.system.files import read_json, write_json

ARCHIVES = sorted(path.parent for path in (ROOT / "reference" / "obtained").glob(f"*/{MANIFEST}"))
ARCHIVE = ROOT / "reference" / "obtained" / "cifar10-cpu"
ORCID = "https://orcid.org/0000-0002-1825-0097"


@pytest.fixture(scope="module")
def exported(finished_tiny: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = copied(finished_tiny, tmp_path_factory.mktemp("crate") / "checkout")
    with inside(own):
        return (own.path / export(tiny(), Path("mine"), agent=ORCID)).resolve()


@pytest.fixture(params=["tiny", *ARCHIVES], ids=lambda case: Path(case).name)
def crate(request: pytest.FixtureRequest) -> Path:
    """An export made now, and each archive."""
    return request.getfixturevalue("exported") if request.param == "tiny" else request.param


def several(value: Any) -> list[Any]:
    """What a property refers to: one entity or several."""
    return value if isinstance(value, list) else [value]


def ids(value: Any) -> set[str]:
    """Identifiers of what a property refers to."""
    return {getattr(each, "id", each) for each in several(value)}


def test_it_is_a_workflow_run_crate(crate: Path) -> None:
    """What the profile requires: conformsTo, a ComputationalWorkflow as main entity, an action that executed it."""
    found = ROCrate(crate)
    root = found.root_dataset
    profiles = {entity.id for entity in root["conformsTo"]}
    assert {"https://w3id.org/ro/wfrun/process/0.5", "https://w3id.org/ro/wfrun/workflow/0.5"} <= profiles
    assert all(found.dereference(profile).type == "CreativeWork" for profile in profiles)
    assert "https://w3id.org/workflowhub/workflow-ro-crate/1.0" in ids(found.metadata["conformsTo"])
    assert all(root[name] for name in ("name", "description", "datePublished", "license"))
    workflow = found.mainEntity
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(workflow.type) and workflow.id == WORKFLOW
    assert workflow["programmingLanguage"]["name"] == "Snakemake" and workflow["version"] and workflow["license"]
    actions = [action for action in several(root["mentions"]) if action["instrument"].id == WORKFLOW]
    assert actions
    for action in actions:
        assert action.type == "CreateAction" and action["name"] and action["description"]
        assert action["endTime"].endswith("+00:00")
        assert {"config.yaml"} < ids(action["object"])
        assert any(identifier.endswith("/cells.csv") for identifier in ids(action["result"]))
        assert action["agent"].type in ("Person", "Organization")


def test_every_file_is_in_it_and_every_reference_leads_somewhere(crate: Path) -> None:
    graph = read_json(crate / METADATA)["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert len(entities) == len(graph), "each once"
    root = entities["./"]
    files = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert {unquote(part["@id"]) for part in root["hasPart"]} == files - {METADATA}
    known = {*entities, "https://w3id.org/ro/crate/1.1"}
    for entity in graph:
        for name, value in entity.items():
            for each in several(value):
                assert not isinstance(each, dict) or each["@id"] in known, f"{entity['@id']}: {name}"


def test_it_says_versions_people_and_paper_as_the_citation(crate: Path) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    found = ROCrate(crate)
    paper = found.root_dataset["citation"]
    assert paper["name"] == citation["preferred-citation"]["title"]
    authors = [person["name"] for person in paper["author"]]
    assert authors[0] == "Yefan Zhou" and len(authors) == len(citation["preferred-citation"]["authors"])
    assert found.root_dataset["license"]["name"] == citation["license"]
    software = {each["name"]: each["softwareVersion"] for each in found.mainEntity["softwareRequirements"]}
    recorded = next(iter(read_json(crate / "provenance.json").values()))["environments"][0]["versions"]
    assert software.items() >= recorded.items() and "torch" in software


def test_equal_exports_have_equal_descriptions(finished_tiny: Checkout, exported: Path, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        again = export(tiny(), Path("elsewhere"), agent=ORCID)
        nobody = export(tiny(), Path("nobody"))
        assert (again / METADATA).read_bytes() == (exported / METADATA).read_bytes()
        assert "agent" not in (nobody / METADATA).read_text()
        assert research_object.stated_agent(again) == ORCID and research_object.stated_agent(nobody) == ""


def undescribed(folder: Path) -> Path:
    """The archive as before there were descriptions."""
    shutil.copytree(ARCHIVE, folder)
    for name in (METADATA, WORKFLOW):
        (folder / name).unlink()
    about = read_json(folder / MANIFEST)
    files = {name: entry for name, entry in about["files"].items() if name not in (METADATA, WORKFLOW)}
    write_json(folder / MANIFEST, {**about, "files": files})
    return folder


def test_an_older_export_can_be_described(tmp_path: Path) -> None:
    """Its manifest then lists the two new files, and nothing else has changed."""
    folder = undescribed(tmp_path / "older")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST}
    research_object.describe(folder, "Ada Lovelace")
    assert all(path.read_bytes() == content for path, content in before.items())
    about, first = read_json(folder / MANIFEST), read_json(ARCHIVE / MANIFEST)
    assert about["files"].keys() == manifest.entries(folder).keys() - {MANIFEST}
    assert {key: about[key] for key in about if key != "files"} == {key: first[key] for key in first if key != "files"}
    manifest.check(folder)
    assert ROCrate(folder).mainEntity.id == WORKFLOW
    assert (folder / WORKFLOW).read_bytes() == (ARCHIVE / WORKFLOW).read_bytes() != (ROOT / WORKFLOW).read_bytes()
    assert research_object.stated_agent(folder) == "Ada Lovelace"
    with pytest.raises(UserError, match="exists already"):
        research_object.describe(folder)


def test_an_interrupted_description_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files are there, and the manifest does not list them yet."""
    folder = undescribed(tmp_path / "older")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "entry", killed)
        with pytest.raises(KeyboardInterrupt):
            research_object.describe(folder)
    assert (folder / METADATA).is_file() and (folder / WORKFLOW).is_file()
    research_object.describe(folder)
    assert {METADATA, WORKFLOW} <= read_json(folder / MANIFEST)["files"].keys()
    manifest.check(folder)


@pytest.mark.parametrize("commit", ["", "unknown", "HEAD", "--output={}", "abc", "abcdef0+other"])
def test_what_is_no_commit_is_not_asked_of_git(tmp_path: Path, commit: str) -> None:
    """An empty one is the index, and one like an option writes a file."""
    folder, trace = undescribed(tmp_path / "older"), tmp_path / "trace"
    about = read_json(folder / MANIFEST)
    write_json(folder / MANIFEST, {**about, "redrawn_from": None, "commit": commit.format(trace)})
    with pytest.raises(UserError, match="the Snakefile of .* is unknown"):
        research_object.describe(folder)
    assert not list(tmp_path.glob("trace*")) and not (folder / METADATA).exists()


def test_a_run_names_the_commits_that_computed_its_results(exported: Path) -> None:
    (record,) = read_json(exported / "provenance.json").values()
    (action,) = (each for each in read_json(exported / METADATA)["@graph"] if each["@type"] == "CreateAction")
    assert f"with the code of commit {record['environments'][0]['commit']};" in action["description"]


def test_what_is_no_export_or_of_an_unknown_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an export"):
        research_object.describe(tmp_path)
    folder = undescribed(tmp_path / "older")
    about = read_json(folder / MANIFEST)
    write_json(folder / MANIFEST, {**about, "redrawn_from": "0" * 40})
    with pytest.raises(UserError, match="commit 0{40} is not in this checkout"):
        research_object.describe(folder)
    assert not (folder / METADATA).exists()
    (folder / "config.yaml").write_text("results: elsewhere")
    with pytest.raises(UserError, match="altered since the export was packed"):
        research_object.describe(folder)


def test_figures_made_again_are_an_action_of_their_own() -> None:
    """In the archive, which was redrawn: the study's action stays, with the Snakefile of the commit that ran it."""
    found = ROCrate(ARCHIVE)
    about = json.loads((ARCHIVE / MANIFEST).read_text())
    assert about["redrawn_from"] in found.mainEntity["version"]
    redraw = found.dereference("#redraw")
    assert about["commit"] in redraw["description"] and redraw["instrument"]["name"] == "three_regime"
    assert "cifar10-cpu/figures/phase_diagram.png" in ids(redraw["result"])
