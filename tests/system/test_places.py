"""`~` expands everywhere, and impossible folders are refused by key before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tiny_study import ROOT, mapping

from three_regime import cli
from three_regime.config import load, resolve
from three_regime.errors import UserError
from three_regime.system import places


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def homeless(monkeypatch) -> None:
    """Neither ``HOME`` nor an entry of this user, as in a container started for another number."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)


def test_a_tilde_is_the_home_folder_in_every_key(home):
    top = {"results": "~/r/", "data": {"folder": "~/d", "offline": ["~/o", "p"]}}
    config = resolve(mapping(Path("anywhere"), top=top))
    assert (config.results, config.data.folder) == (f"{home}/r", f"{home}/d")
    assert config.data.offline == (f"{home}/o", "p")


def test_a_tilde_works_in_every_path_of_the_command_line(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (home / "hyp.txt").write_text("one two three four five\n")
    ran = CliRunner().invoke(cli.main, ["bleu", "--hyp=~/hyp.txt", "--ref=~/hyp.txt"])
    assert (ran.exit_code, ran.output[:11]) == (0, "BLEU 100.00")
    (home / "c.yaml").write_text("threads: yes\n")
    with pytest.raises(UserError, match=rf"config\.threads: .*{home}/c\.yaml, line 1"):
        load([ROOT / "config.yaml", Path("~/c.yaml")])


@pytest.mark.usefixtures("homeless")
def test_without_a_home_a_tilde_is_refused_by_its_key():
    with pytest.raises(UserError, match=r"config\.results: .*home folder for ~ is unknown"):
        resolve(mapping(Path("anywhere"), top={"results": "~/r"}))
    with pytest.raises(UserError, match=r"config\.data\.offline\.0|config\.data\.offline"):
        resolve(mapping(Path("anywhere"), top={"data": {"offline": ["~/o"]}}))
    assert places.cache_home() is None


@pytest.mark.usefixtures("homeless")
def test_without_a_home_snakemakes_caches_are_temporary(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    found = places.stand_ins()
    assert found["LOGNAME"] == "54321" and "XDG_DATA_HOME" not in found
    assert Path(found["XDG_CACHE_HOME"]).is_absolute() and "three_regime-54321" in found["XDG_CACHE_HOME"]


@pytest.mark.usefixtures("home")
def test_who_has_a_home_needs_no_stand_ins(monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody")
    assert places.stand_ins() == {}


def test_a_cache_that_is_no_absolute_path_is_none(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    assert places.cache_home() is None


@pytest.mark.parametrize(
    "text",
    ["{seed}", "results/{study}", "<b>x", "a\0b", "a\nb", "x" * 256, "x/" * 1600, ".", "./", "/", " ", "..",
     "a/..", "../..", "s3://b/x", ".snakemake", ".snakemake/x", "a/.git/b", "/tmp/.venv", "~no-such-user-here/x"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["results", "data.folder"])
def test_names_that_can_be_no_folder_are_refused(text, key):
    top = {"results": text} if key == "results" else {"data": {"folder": text}}
    with pytest.raises(UserError, match=f"^config.{key}: ") as refused:
        resolve(mapping(Path("anywhere"), top=top))
    assert len(str(refused.value)) < 400


def settle(tmp_path: Path, **top: object) -> None:
    whole = tmp_path / "whole.yaml"
    whole.write_text(yaml.safe_dump(mapping(tmp_path, top=top)))
    load([whole])


def test_places_that_cannot_be_are_refused_by_their_key(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "purged")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for key in ("results", "data.folder"):
        for name, said in (
            ("file", "is a file"),
            ("file/below", "file is a file"),
            ("gone", f"is a link to {tmp_path}/purged, which does not exist"),
            ("gone/below", "is a link to"),
            ("loop", "is a link to"),
        ):
            place = str(tmp_path / name)
            top = {"results": place} if key == "results" else {"data": {"folder": place}}
            with pytest.raises(UserError, match=rf"^config\.{key}: .*{said}"):
                settle(tmp_path, **top)
    settle(tmp_path)  # nothing is there yet
    assert not (tmp_path / "results").exists()


def test_results_among_the_data_are_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "data")
    for name in ("data", "data/x", "other", "other/x"):
        with pytest.raises(UserError, match=r"^config\.results: .* is inside config\.data\.folder"):
            settle(tmp_path, results=str(tmp_path / name))
    settle(tmp_path, data={"folder": str(tmp_path / "results" / "data")})


SOURCES = ("three_regime", "three_regime/config", "config", "rules", "scripts", "tests", "docs", "schemas", "envs",
           "reference", "benchmarks", "profiles", "")  # fmt: skip


@pytest.mark.parametrize("key", ["results", "data.folder"])
def test_folders_of_the_projects_own_files_are_refused(tmp_path, monkeypatch, key):
    monkeypatch.chdir(ROOT)
    for name in (*SOURCES[:-1], *(str(ROOT / name) for name in SOURCES), "results/../tests/"):
        top = {"results": name} if key == "results" else {"data": {"folder": name}}
        with pytest.raises(
            UserError, match=rf"^config\.{key}: .* this project's own files; name another, like `results`"
        ):
            settle(tmp_path, **top)
    (tmp_path / "link").symlink_to(ROOT / "docs")
    with pytest.raises(UserError, match="own files"):
        settle(tmp_path, results=str(tmp_path / "link" / "x"))


def test_folders_of_these_names_elsewhere_are_accepted(tmp_path, monkeypatch):
    for name in ("results/docs", "docs-of-mine", "results", "mine"):
        monkeypatch.chdir(ROOT)
        settle(tmp_path, results=name)
    monkeypatch.chdir(tmp_path)
    settle(tmp_path, results="docs", data={"folder": "tests"})


def test_every_folder_of_the_checkout_is_known():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    folders = {line.partition("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    assert folders - {"results"} <= set(places._SOURCES)


def test_results_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    refusing = tmp_path / "theirs"
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != refusing and real(path, mode))
    with pytest.raises(UserError, match=rf"^config\.results: {refusing} is not writable"):
        places.check_writable(str(refusing / "below" / "results"))
    places.check_writable(str(tmp_path / "results"))


def test_no_stage_begins_where_it_cannot_write(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "purged")
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(mapping(tmp_path)))
    command = [sys.executable, "-m", "three_regime", "run-stage", "prepare", "--base", str(tmp_path / "whole.yaml")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 2 and "purged, which does not exist" in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "data").exists()
