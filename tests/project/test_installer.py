"""The installer of the environment, `envs/install.py`, with its commands recorded instead of run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from checkout import ROOT

ENVS = ROOT / "envs"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The installer in its own folder, with commands recorded instead of run."""
    spec = importlib.util.spec_from_file_location("install", ENVS / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copytree(ENVS, tmp_path / "a clone" / "envs")
    monkeypatch.setattr(module, "ROOT", tmp_path / "a clone")
    module.commands = []
    module.fails_at = None

    def run(command: list[str], *, env: dict[str, str], **options: object) -> None:
        module.commands.append(" ".join(command))
        module.environment = env
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()
        if module.fails_at and module.fails_at in command:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(module.subprocess, "run", run)
    return module


def test_a_complete_environment_is_left_alone(install: ModuleType) -> None:
    assert install.main() == 0
    assert len(install.commands) == 5
    assert install.main() == 0
    assert len(install.commands) == 5


def test_a_half_made_environment_is_thrown_away(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    install.fails_at = "-e"
    assert install.main() == 1
    assert "run make again" in capsys.readouterr().err
    leftover = install.ROOT / ".venv" / "leftover"
    leftover.touch()
    install.fails_at = None
    assert install.main() == 0
    assert not leftover.exists()
    assert len(install.commands) == 10


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-lock.txt", "requirements-cuda.txt"])
def test_another_pin_makes_another_environment(install: ModuleType, name: str) -> None:
    install.main()
    with (install.ROOT / "envs" / name).open("a") as file:
        file.write("# another line\n")
    install.main()
    assert len(install.commands) == 10


def test_a_moved_checkout_makes_another_environment(install: ModuleType) -> None:
    install.main()
    moved = install.ROOT.parent / "moved"
    install.ROOT.rename(moved)
    assert not install.complete(moved, moved / ".venv")
    moved.rename(install.ROOT)
    venv = install.ROOT / ".venv"
    assert install.complete(install.ROOT, venv)
    (venv / "bin" / "python").unlink()
    assert not install.complete(install.ROOT, venv)


def test_another_checkouts_environment_is_left_alone(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    shared = str(install.ROOT.parent / "shared")
    assert install.main(shared) == 0
    first, other = install.ROOT, install.ROOT.parent / "another clone"
    shutil.copytree(first, other)
    install.ROOT = other
    assert install.main(shared) == 2
    assert f"is the environment of the checkout {first}" in capsys.readouterr().err
    assert (Path(shared) / "complete").exists() and len(install.commands) == 5
    shutil.rmtree(first)
    assert install.main(shared) == 0
    assert (Path(shared) / install.MARK).read_text() == str(other)


def test_an_impossible_place_is_one_sentence(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    (install.ROOT / "file").touch()
    assert install.main("file/env") == 1
    assert re.search(r"cannot be made in \S.*file/env: .*VENV=PATH", capsys.readouterr().err)


@pytest.mark.parametrize("driver", [False, True])
def test_a_gpu_gets_the_cuda_build(install: ModuleType, monkeypatch: pytest.MonkeyPatch, driver: bool) -> None:
    monkeypatch.setattr(install, "has_gpu", lambda: driver)
    assert install.main() == 0
    assert any("torch-cpu.txt" in command for command in install.commands) == (not driver)


def somebody_elses(venv: Path, kind: str) -> None:
    """A folder at the environment's path that `install` did not create."""
    if kind == "file":
        venv.write_text("mine")
    elif kind == "link":
        (venv.parent / "other" / "bin").mkdir(parents=True)
        venv.symlink_to(venv.parent / "other")
    elif kind == "link to nowhere":
        venv.symlink_to(venv.parent / "nowhere")
    else:
        (venv / "bin").mkdir(parents=True)
        (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
        (venv / "pip.conf").write_text("[global]\nindex-url = mine\n")


@pytest.mark.parametrize("kind", ["environment", "link", "link to nowhere", "file"])
def test_somebody_elses_environment_is_left_alone(
    install: ModuleType, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    venv = install.ROOT / ".venv"
    somebody_elses(venv, kind)
    before = {str(path): path.lstat().st_mtime_ns for path in [venv, *venv.rglob("*")]}
    assert install.main() == 2
    assert "is left as it is" in (said := capsys.readouterr().err) and "VENV=" in said
    assert install.commands == []
    assert {str(path): path.lstat().st_mtime_ns for path in [venv, *venv.rglob("*")]} == before
    assert install.main("elsewhere") == 0
    assert (install.ROOT / "elsewhere/complete").exists()
    assert {str(path): path.lstat().st_mtime_ns for path in [venv, *venv.rglob("*")]} == before


@pytest.mark.parametrize("leaves", ["nothing", "pip.conf"])
def test_what_an_earlier_version_left_half_made_is_ours(install: ModuleType, leaves: str) -> None:
    venv = install.ROOT / ".venv"
    venv.mkdir()
    if leaves == "pip.conf":
        (venv / "pip.conf").write_text("[global]\nconstraint = file:///a/envs/requirements-lock.txt\n")
    assert install.main() == 0


def test_an_environment_is_marked_before_anything_else_is_in_it(install: ModuleType) -> None:
    install.fails_at = "venv"
    assert install.main() == 1
    assert (install.ROOT / ".venv" / install.MARK).exists()
    install.fails_at = None
    assert install.main() == 0


def test_the_lock_binds_source_builds_and_later_installs_too(install: ModuleType) -> None:
    install.main()
    uri = (install.ROOT / ".venv" / "constraints.txt").as_uri()
    assert " " not in uri  # pip splits the variable at spaces
    assert install.environment["PIP_CONSTRAINT"] == install.environment["PIP_BUILD_CONSTRAINT"] == uri
    assert uri in (install.ROOT / ".venv" / "pip.conf").read_text()
    constraints = (install.ROOT / ".venv" / "constraints.txt").read_text()
    lock = (ENVS / "requirements-lock.txt").read_text()
    pinned = re.findall(r"^[\w.-]+==[^\s\\;]+", lock, flags=re.MULTILINE)
    assert len(pinned) > 100 and [line.split()[0] for line in constraints.splitlines()] == pinned
    assert "hash" not in constraints, "or whatever is installed by hand would need one too"


def test_pip_is_quiet_and_each_step_is_a_line(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    install.main()
    assert all("pip install --quiet" in command for command in install.commands if "pip install" in command)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in told[1:]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert re.search(r"\b\d{3} packages", told[2])


def test_the_lock_is_installed_by_its_hashes_first(install: ModuleType) -> None:
    install.main()
    first, second = [command for command in install.commands if "pip install" in command][:2]
    assert "--no-deps --require-hashes -r" in first and first.endswith("torch-cpu.txt")
    assert "--no-deps --require-hashes -r" in second and second.endswith("requirements-lock.txt")


def test_the_cpu_build_of_torch_is_taken_where_it_is_offered(install: ModuleType) -> None:
    install.fails_at = str(install.ROOT / ".venv" / "torch-cpu.txt")
    assert install.main() == 0, "and the registry's where it is not"
    first, *hashes = (install.ROOT / ".venv" / "torch-cpu.txt").read_text().splitlines()
    assert first == "torch==2.13.0+cpu \\"
    assert len(hashes) > 5 and all("--hash=sha256:" in line for line in hashes)
    assert hashes[-1][-1] != "\\" and all(line.endswith(" \\") for line in hashes[:-1])


@pytest.mark.parametrize(("needs", "expected"), [("nvidia-cublas==1", True), ("numpy", False)])
def test_cudas_libraries_are_for_the_build_that_asks(install: ModuleType, needs: str, expected: bool) -> None:
    about = install.ROOT / ".venv" / "lib" / "python3.11" / "site-packages" / "torch-2.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text(f"Name: torch\nRequires-Dist: filelock\nRequires-Dist: {needs}\n")
    assert install.needs_cuda(install.ROOT / ".venv") is expected
