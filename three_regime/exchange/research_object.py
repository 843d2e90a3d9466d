"""Describe an export as an RO-Crate: who made what from what, when and with which versions, readable by machines.

``ro-crate-metadata.json`` follows the Workflow Run Crate profile 0.5 (https://w3id.org/ro/wfrun/workflow/0.5): the
Snakefile of the exporting commit is the workflow, and each study is an action that made the study's files with it; the
action names the commits that computed its results. Everything stated comes from the export itself and from
CITATION.cff, in a fixed order, so equal exports have equal descriptions.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from three_regime import __version__
from three_regime.errors import UserError
from three_regime.exchange.exported_settings import read_settings
from three_regime.study.grid import Study, planned
from three_regime.study.outputs import SETTINGS_FILE
from three_regime.system import manifest
from three_regime.system.files import read_json, write_json, write_text
from three_regime.system.manifest import MANIFEST
from three_regime.system.places import CHECKOUT
from three_regime.system.yaml_files import read_mapping

METADATA = "ro-crate-metadata.json"
WORKFLOW = "Snakefile"
PROVENANCE = "provenance.json"

_RO_CRATE = "https://w3id.org/ro/crate/1.1"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_CONTEXT = [f"{_RO_CRATE}/context", "https://w3id.org/ro/terms/workflow-run/context"]
_SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
_TYPES = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".yaml": "application/yaml",
}
"""Suffix → media type; other files (the Snakefile, weights, event files) state none."""

_COMMIT = re.compile(r"[0-9a-f]{7,64}(\+changes)?")

_UNRECORDED: dict[str, Any] = {"stages": {}, "environments": []}
"""Provenance of a study in an export that has none."""

Entity = dict[str, Any]


def write(folder: Path, *, agent: str = "", commit: str = "", redrawn_with: str = "") -> None:
    """Write ``ro-crate-metadata.json`` for all files in an export, before its manifest.

    Parameters
    ----------
    folder
        The export, with the Snakefile of the commit that exported it (`copy_workflow`).
    agent
        Who ran it: a name, or a URL that identifies a person or organisation, such as an ORCID; empty: not stated.
    commit
        Commit of the code that exported the results; those that computed them are in their provenance.
    redrawn_with
        Commit of the code that made tables and figures again, if `redraw` did.
    """
    text = {"@context": _CONTEXT, "@graph": _entities(folder, agent, commit, redrawn_with)}
    write_json(folder / METADATA, text)


def copy_workflow(folder: Path, source: Path | None = None, commit: str = "") -> bool:
    """Put the Snakefile into an export: that of the export `source`, of `commit`, or else of this checkout.

    Returns
    -------
    bool
        False if it cannot be had: the source has none and its commit is not in the history of this checkout.
    """
    if source is None:
        shutil.copyfile(CHECKOUT / WORKFLOW, folder / WORKFLOW)
    elif (source / WORKFLOW).is_file():
        if source != folder:
            shutil.copyfile(source / WORKFLOW, folder / WORKFLOW)
    elif (text := _at_commit(commit)) is not None:
        write_text(folder / WORKFLOW, text)
    else:
        return False
    return True


def describe(folder: Path, agent: str = "") -> Path:
    """Add the description to an export that was made before exports had one, and list it in the manifest.

    Every other file is left as it is.

    Raises
    ------
    UserError
        When `folder` is not an unaltered export, it is described already, or the Snakefile of its commit is unknown.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is not an export: it has no {MANIFEST}")
    manifest.check(folder)
    about = read_json(path)
    if METADATA in about["files"]:  # an unlisted one was left by an interrupted call
        raise UserError(f"{folder / METADATA} exists already")
    origin = about.get("redrawn_from")
    commit = origin or about.get("commit") or ""
    if not copy_workflow(folder, folder, commit):
        raise UserError(f"the Snakefile of {folder} is unknown: commit {commit or '(none)'} is not in this checkout")
    write(folder, agent=agent, commit=commit, redrawn_with=about["commit"] if origin else "")
    listed = {**about["files"], **{name: manifest.entry(folder / name) for name in (WORKFLOW, METADATA)}}
    write_json(path, {**about, "files": dict(sorted(listed.items()))})
    return folder / METADATA


def stated_agent(folder: Path) -> str:
    """Who ran an export according to its description; empty if that is not stated, or there is none."""
    path = folder / METADATA
    graph = read_json(path).get("@graph", []) if path.is_file() else []
    actions = [entity for entity in graph if entity.get("@type") == "CreateAction" and "agent" in entity]
    agents = actions[0]["agent"] if actions else []
    first = agents if isinstance(agents, dict) else next(iter(agents), {})
    identifier = str(first.get("@id", "")) if isinstance(first, dict) else str(first)
    names = [entity["name"] for entity in graph if entity.get("@id") == identifier and identifier.startswith("#")]
    return names[0] if names else identifier


def _at_commit(commit: str) -> str | None:
    """The Snakefile of a commit that a manifest names; None if it names none, or this checkout does not have it."""
    if not _COMMIT.fullmatch(commit):  # git would take others as options, or "" as the index
        return None
    revision = f"{commit.removesuffix('+changes')}:{WORKFLOW}"
    try:
        return subprocess.run(
            ["git", "show", revision], cwd=CHECKOUT, capture_output=True, encoding="utf-8", check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _entities(folder: Path, agent: str, commit: str, redrawn_with: str) -> list[Entity]:
    """All entities, the description and the export itself first."""
    citation = read_mapping(CHECKOUT / "CITATION.cff").values
    studies = [study for study in planned(read_settings(folder)) if (folder / study.name).is_dir()]
    recorded = read_json(folder / PROVENANCE) if (folder / PROVENANCE).is_file() else {}
    records = {study.name: recorded.get(study.name, _UNRECORDED) for study in studies}
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = sorted({*files, MANIFEST} - {METADATA})
    software = _software(records)
    people = _people(citation)
    by = _agent(agent, people)
    actions = [_run(study, records[study.name], files, by) for study in studies]
    again = _redrawn(files, redrawn_with) if redrawn_with else []
    return [
        _self(),
        _root(records, files, citation, [action["@id"] for action in (*actions, *again[:1])]),
        *(_thing(url, "CreativeWork", name=name, version=version) for url, (name, version) in _PROFILES.items()),
        _workflow(citation, commit, software),
        _thing(_SNAKEMAKE, "ComputerLanguage", name="Snakemake", url="https://snakemake.github.io"),
        *software,
        *actions,
        *again,
        *_data_sets(studies),
        *people,
        *([by] if by and by not in people else []),
        *_paper(citation),
        *map(_file, (name for name in files if name != WORKFLOW)),
    ]


def _thing(identifier: str, kind: str | Sequence[str], **properties: Any) -> Entity:
    """An entity without its empty properties."""
    return {"@id": identifier, "@type": kind, **{key: value for key, value in properties.items() if value}}


def _to(*identifiers: str) -> Any:
    """A reference to one entity, or to several."""
    found = [{"@id": identifier} for identifier in identifiers]
    return found[0] if len(found) == 1 else found


def _self() -> Entity:
    conforms = _to(_RO_CRATE, list(_PROFILES)[-1])
    return _thing(METADATA, "CreativeWork", about=_to("./"), conformsTo=conforms)


def _root(records: Mapping[str, Any], files: Sequence[str], citation: Mapping[str, Any], runs: Sequence[str]) -> Entity:
    last = [stage["last"] for record in records.values() for stage in record["stages"].values()]
    return _thing(
        "./",
        "Dataset",
        name=f"Results of three_regime: {', '.join(records)}",
        description="Tables, figures, settings and provenance of studies of network pruning: LMC and CKA over the"
        " plane of temperature and density.",
        datePublished=max(last, default=""),
        license=_to(f"https://spdx.org/licenses/{citation['license']}"),
        conformsTo=_to(*_PROFILES),
        mainEntity=_to(WORKFLOW),
        citation=_to(citation["preferred-citation"]["url"]),
        mentions=_to(*runs) if runs else None,
        hasPart=_to(*map(quote, files)),
    )


def _workflow(citation: Mapping[str, Any], commit: str, software: Sequence[Entity]) -> Entity:
    return _thing(
        WORKFLOW,
        ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        name=citation["title"],
        version=f"{citation['version']} (commit {commit})" if commit else citation["version"],
        programmingLanguage=_to(_SNAKEMAKE),
        license=_to(f"https://spdx.org/licenses/{citation['license']}"),
        author=_to("#authors"),
        softwareRequirements=_to(*(each["@id"] for each in software)) if software else None,
        citation=_to(citation["preferred-citation"]["url"]),
    )


def _software(records: Mapping[str, Any]) -> list[Entity]:
    """Each version of Python and each package that computed a result."""
    used = {
        (package, version)
        for record in records.values()
        for environment in record["environments"]
        for package, version in environment.get("versions", {}).items()
    }
    return [
        _thing(f"#{quote(f'{package}-{version}')}", "SoftwareApplication", name=package, softwareVersion=version)
        for package, version in sorted(used)
    ]


def _run(study: Study, record: Mapping[str, Any], files: Sequence[str], agent: Entity | None) -> Entity:
    """The action that made the results of a study; its start is not recorded."""
    name = study.name
    stages, environments = record["stages"], record["environments"]
    hours = sum(stage["wall_s"] for stage in stages.values()) / 3600
    devices = sorted({_device(each) for each in environments})
    commits = sorted({each["commit"] for each in environments if "commit" in each})
    at = f" with the code of commit {', '.join(commits)}" if commits else ""
    results = sum(each["results"] for each in environments)
    return _thing(
        f"#run-{quote(name)}",
        "CreateAction",
        name=f"Study {name}",
        description=f"{results} results, {hours:.2f} hours of jobs on {', '.join(devices) or 'an unknown device'}{at};"
        f" settings: {SETTINGS_FILE}; recipes and versions: {PROVENANCE}.",
        instrument=_to(WORKFLOW),
        agent=_to(agent["@id"]) if agent else None,
        object=_to(SETTINGS_FILE, _data_set(study)),
        result=_to(*(quote(path) for path in files if path.startswith(f"{name}/"))),
        endTime=max((stage["last"] for stage in stages.values()), default=""),
    )


def _device(environment: Mapping[str, Any]) -> str:
    """Device and machine; imported records name no machine."""
    machine = environment.get("machine")
    return f"{environment.get('device')} ({machine})" if machine else str(environment.get("device"))


def _redrawn(files: Sequence[str], commit: str) -> list[Entity]:
    """The action of `redraw`, and what it was done with."""
    made = [quote(path) for path in files if "/figures/" in path and not path.endswith("/training_curves.csv")]
    tool = "#three_regime"
    return [
        _thing(
            "#redraw",
            "CreateAction",
            name="Figures made again from the tables",
            description=f"python -m three_regime redraw, at commit {commit}",
            instrument=_to(tool),
            object=_to(SETTINGS_FILE, *(quote(path) for path in files if path.endswith("/cells.csv"))),
            result=_to(*made),
        ),
        _thing(tool, "SoftwareApplication", name="three_regime", softwareVersion=__version__),
    ]


def _data_set(study: Study) -> str:
    return f"#data-{quote(study.config.dataset.name)}"


def _data_sets(studies: Sequence[Study]) -> list[Entity]:
    found = {_data_set(study): study.config.dataset.name for study in studies}
    return [_thing(identifier, "CreativeWork", name=f"data set {name}") for identifier, name in sorted(found.items())]


def _agent(agent: str, people: Sequence[Entity]) -> Entity | None:
    """A person or organisation, by URL or by name: one of `people`, or else a person."""
    if agent.startswith(("https://", "http://")):
        return _thing(agent, "Person" if "orcid.org/" in agent else "Organization", name=agent)
    known = next((entity for entity in people if entity["name"] == agent), None)
    return known or (_thing("#agent", "Person", name=agent) if agent else None)


def _people(citation: Mapping[str, Any]) -> list[Entity]:
    """The authors of the software, and those of the paper."""
    software = ", ".join(each["name"] for each in citation["authors"])
    authors = citation["preferred-citation"]["authors"]
    return [
        _thing("#authors", "Organization", name=software),
        *(_thing(_person(each), "Person", name=f"{each['given-names']} {each['family-names']}") for each in authors),
    ]


def _person(author: Mapping[str, Any]) -> str:
    return f"#{quote(author['family-names'].lower())}"


def _paper(citation: Mapping[str, Any]) -> list[Entity]:
    """The licence, and the paper that the software reproduces."""
    paper = citation["preferred-citation"]
    licence = f"https://spdx.org/licenses/{citation['license']}"
    return [
        _thing(licence, "CreativeWork", name=citation["license"], url=licence),
        _thing(
            paper["url"],
            "ScholarlyArticle",
            name=paper["title"],
            author=_to(*map(_person, paper["authors"])),
            datePublished=str(paper["year"]),
        ),
    ]


def _file(path: str) -> Entity:
    return _thing(quote(path), "File", name=path, encodingFormat=_TYPES.get(Path(path).suffix))
