"""Redrawing exports and archives of studies from their tables, without torch."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import ROOT
from finished import FILES, NAME, copied, inside, tiny
from tiny_study import mapping

from three_regime.analysis import case_studies
from three_regime.config import load, plugins
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.exchange import research_object
from three_regime.exchange.export import MANIFEST, export
from three_regime.exchange.redraw import CURVES, read_settings, redraw
from three_regime.exchange.research_object import WORKFLOW
from three_regime.jobs.without_snakemake import run_stage
from three_regime.study.outputs import (
    CASE_TABLES,
    CELL_TABLES,
    CLAIM_FILES,
    EXPLORER_FILE,
    REGIME_TABLES,
    SCORECARD_FILES,
)
from three_regime.system.files import read_json, write_text

ARCHIVES = sorted(path.parent for path in (ROOT / "reference" / "obtained").glob(f"*/{MANIFEST}"))
LARGEST = {"networks": 8_000_000, "the rest": 5_000_000}
"""Bytes of an archive, of which networks and their results (``seed1/…``) are not redrawn."""
WITHOUT_TORCH = """
import sys
from pathlib import Path
from three_regime.exchange.redraw import redraw
redraw(Path(sys.argv[1]), Path(sys.argv[2]))
assert "torch" not in sys.modules, "redrawing needed torch"
"""


@pytest.fixture(scope="module", params=[None, *ARCHIVES], ids=lambda path: path.name if path else "tiny")
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each archive, and an export made now."""
    if request.param:
        return request.param
    own = copied(request.getfixturevalue("finished_tiny"), tmp_path_factory.mktemp("own") / "checkout")
    with inside(own):
        run_stage("tables", FILES)
        results = Path(tiny().results)
        case_studies.write(results / "case_studies", list(results.glob("*/grid.csv")), {NAME: Thresholds()})
        return own.path / export(tiny(), Path("mine"))


@pytest.fixture(scope="module")
def again(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that follows from the archive's tables, made in a process of its own."""
    out = tmp_path_factory.mktemp("redrawn") / archive.name
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHOUT_TORCH, str(archive), str(out)]
    ended = subprocess.run(command, env=environment, cwd=out.parent, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return out


def of_networks(name: str) -> bool:
    """Whether a file of an archive is a network or its result."""
    return bool(re.search(r"/seed\d+/", name))


def test_it_is_whole_and_small(archive: Path) -> None:
    files = {path.relative_to(archive).as_posix(): path for path in archive.rglob("*") if path.is_file()}
    listed = read_json(archive / MANIFEST)["files"]
    assert files.keys() - {MANIFEST} == listed.keys()
    for name, about in listed.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == about["sha256"], f"{name} was changed"
    sizes = dict.fromkeys(LARGEST, 0)
    for name, path in files.items():
        sizes["networks" if of_networks(name) else "the rest"] += path.stat().st_size
    assert all(sizes[part] < most for part, most in LARGEST.items()), sizes
    suffixes = {path.suffix for name, path in files.items() if name != WORKFLOW and not of_networks(name)}
    assert suffixes <= {".csv", ".html", ".json", ".md", ".pdf", ".png", ".yaml"}


def test_recomputed_tables_are_the_committed_ones(archive: Path, again: Path) -> None:
    derived = {f"{name}.csv" for name in REGIME_TABLES} | {*CLAIM_FILES, *SCORECARD_FILES}
    derived |= {f"{name}.csv" for name in CASE_TABLES}
    committed = [path for path in archive.rglob("*") if path.name in derived]
    assert any(path.name == "grid.csv" for path in committed)
    for path in committed:
        other = again / path.relative_to(archive)
        if path.suffix == ".csv":
            pd.testing.assert_frame_equal(pd.read_csv(other), pd.read_csv(path), rtol=1e-9)
        else:
            assert other.read_text() == path.read_text(), path


def test_every_figure_redraws_from_it(archive: Path, again: Path) -> None:
    drawn = {path.relative_to(archive) for path in archive.glob("*/figures/*")}
    assert drawn and drawn == {path.relative_to(again) for path in again.glob("*/figures/*")}
    for name in drawn:
        if name.suffix == ".csv":
            pd.testing.assert_frame_equal(pd.read_csv(again / name), pd.read_csv(archive / name), rtol=1e-9)
        else:
            assert (again / name).stat().st_size > 1000


def test_what_was_redrawn_is_an_export_itself(archive: Path, again: Path) -> None:
    about, source = read_json(again / MANIFEST), read_json(archive / MANIFEST)
    files = {path.relative_to(again).as_posix(): path for path in again.rglob("*") if path.is_file()}
    # An export of tables that were made by hand has no explorer.
    expected = {name for name in source["files"] if not of_networks(name)} | {EXPLORER_FILE}
    assert files.keys() - {MANIFEST} == about["files"].keys() == expected
    for name, listed in about["files"].items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == listed["sha256"], name
    assert about["redrawn_from"] == source.get("redrawn_from", source["commit"])
    assert files["provenance.json"].read_bytes() == (archive / "provenance.json").read_bytes()


def test_its_claims_are_those_that_its_configuration_stated(archive: Path) -> None:
    config = read_settings(archive)
    for name in config.run:
        stated = [claim.name for claim in config.studies[name].claims]
        table = archive / name / "claims.csv"
        assert table.is_file() == bool(stated)
        if stated:
            assert list(pd.read_csv(table)["claim"]) == stated


def test_it_names_machine_versions_and_time(archive: Path) -> None:
    for study in read_json(archive / "provenance.json").values():
        assert all({"versions", "machine", "commit"} <= set(each) for each in study["environments"])
        assert all(stage["wall_s"] > 0 for stage in study["stages"].values())


def test_a_folder_that_exists_or_is_no_export_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        redraw(archive, tmp_path)
    with pytest.raises(UserError, match=r"is not an unpacked export: it has no config\.yaml$"):
        redraw(tmp_path, tmp_path / "out")
    (tmp_path / "unzipped").mkdir()
    (tmp_path / "unzipped/mine").symlink_to(archive)
    with pytest.raises(UserError, match=r"no config\.yaml; \S+/unzipped/mine is$"):
        redraw(tmp_path / "unzipped", tmp_path / "out")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An export with a plugin that leaves a trace when it is imported, and settings of another machine."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("evil.py", "evil_module/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
    (tmp_path / "link").symlink_to(folder)
    return folder


@pytest.mark.parametrize("name", ["hostile/evil.py", "link/evil.py", "{}/evil.py", "beside/evil.py"])
def test_a_plugin_that_an_export_names_is_not_run(
    hostile: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it lies: an archive may unpack to several folders."""
    shutil.copytree(hostile, tmp_path / "beside")
    write_text(hostile / "config.yaml", yaml.safe_dump({"plugins": [name.format(hostile)]}))
    monkeypatch.chdir(tmp_path)
    for folder in (Path("hostile"), Path("link")):
        with pytest.raises(
            UserError, match=r"evil\.py, which is not run because an export names it.* --plugin \S+evil"
        ):
            read_settings(folder)
        with pytest.raises(UserError, match="because an export names it"):
            research_object.write(folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["evil_module", "evil_module.part", "evil", "evil.py"])
def test_a_module_in_the_working_directory_is_not_run(
    hostile: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m`` searches it too."""
    write_text(hostile / "config.yaml", yaml.safe_dump({"plugins": [name]}))
    monkeypatch.chdir(hostile)
    monkeypatch.syspath_prepend(str(hostile))
    with pytest.raises(UserError, match=f"the plugin {name}, which is not run"):
        read_settings(Path())
    assert not (tmp_path / "trace").exists()


def test_a_trusted_plugin_and_folders_elsewhere_are_taken(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hostile / "evil.py").rename(tmp_path / "harmless_plugin.py")
    (tmp_path / "file").touch()
    places = {"results": str(tmp_path / "file" / "results"), "data": {"folder": str(tmp_path / "file" / "data")}}
    monkeypatch.chdir(tmp_path)
    plugins.load(["harmless_plugin.py"])
    assert (tmp_path / "trace").exists()
    settings = mapping(tmp_path, top={"plugins": ["harmless_plugin.py"], **places})
    write_text(hostile / "config.yaml", yaml.safe_dump(settings))
    with pytest.raises(UserError, match="file"):
        load([hostile / "config.yaml"])
    theirs = settings | {"plugins": ["their/folder/harmless_plugin.py"]}
    write_text(hostile / "config.yaml", yaml.safe_dump(theirs))
    assert read_settings(hostile).results == settings["results"]


def test_an_export_keeps_what_redrawing_needs(archive: Path) -> None:
    for name in read_settings(archive).run:
        kept = {path.name for path in (archive / name).glob("*.csv")}
        assert {f"{table}.csv" for table in CELL_TABLES if table not in ("curves", "provenance")} <= kept
        assert (archive / name / CURVES).is_file()
