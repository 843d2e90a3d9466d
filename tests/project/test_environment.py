"""Environment: pins, lock, imports and conda environments agree."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from checkout import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from three_regime import __version__

ENVS = ROOT / "envs"
FILES = (path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
OWN = {"three_regime", "benchmarks", *(path.stem for path in FILES)}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "fairseq": "ve-fairseq",
    "fairseq_cli": "ve-fairseq",
    "sklearn": "scikit-learn",
    "subword_nmt": "subword-nmt",
    "xdist": "pytest-xdist",
    "yaml": "pyyaml",
}
"""Import name → distribution, where they differ."""

STAGES = ("dense", "prune", "retrain", "lmc", "cka")
LATE = {
    "three_regime/models/families.py": "three_regime/models/*.py",
    "three_regime/tasks/interface.py": "three_regime/tasks/*.py",
    **{f"scripts/{stage}.py": f"three_regime/jobs/{stage}.py" for stage in STAGES},
}
"""File → the modules that it imports by a name known only when it runs."""


def pins(name: str) -> dict[str, str]:
    """Map distributions to versions, from a file of ``==`` pins."""
    lines = (ENVS / name).read_text().replace("\\\n", " ").splitlines()
    return exact(line.split(" --hash")[0] for line in lines if line.strip() and not line.startswith("#"))


def exact(requirements: Iterator[str] | list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for requirement in map(Requirement, requirements):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert canonicalize_name(requirement.name) not in found, f"{requirement.name} twice"
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def statements(tree: ast.AST, *, at_import: bool) -> Iterator[ast.stmt]:
    """Import statements that run; with `at_import` only those outside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from statements(node, at_import=at_import)


def imports(file: Path, *, at_import: bool = False) -> set[str]:
    """Dotted names that a file imports, ``from a import b`` as ``a`` and ``a.b``; names in strings too."""
    tree = ast.parse(file.read_text())
    found: set[str] = set()
    for node in statements(tree, at_import=at_import):
        names = [alias.name for alias in node.names]
        module = getattr(node, "module", None)
        found |= {module, *(f"{module}.{name}" for name in names)} if module else set(names)
    if not at_import:
        text = ast.unparse(tree)
        found |= set(re.findall(r"import_module\('([\w.]+)'\)", text))
        found |= set(re.findall(r"'(three_regime[\w.]+):\w+'", text))
    return found


def source_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def third_party(names: set[str]) -> set[str]:
    """Distributions behind dotted import names."""
    top = {name.split(".")[0] for name in names} - OWN - set(sys.stdlib_module_names)
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in top}


def needed(script: Path, *, at_import: bool = False) -> set[str]:
    """Distributions that a script reaches through the library."""
    names: set[str] = set()
    seen: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        found = imports(file, at_import=at_import)
        names |= found
        waiting += filter(None, map(source_of, found))
        if not at_import or file == script:
            waiting += ROOT.glob(LATE.get(file.relative_to(ROOT).as_posix(), ".git/none"))
    return third_party(names)


def rules_with_scripts() -> dict[str, str]:
    """Script name → conda environment, from the rules."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    rules = re.split(r"^\s*rule\b", text, flags=re.MULTILINE)[1:]
    pairs = {}
    for rule in rules:
        script = re.search(r'"\.\./scripts/(\w+)\.py"', rule)
        conda = re.search(r'"\.\./envs/(\w+\.yaml)"', rule)
        if script:
            assert conda, f"the rule of scripts/{script[1]}.py names no environment"
            pairs[script[1]] = conda[1]
    return pairs


def conda_pins(name: str) -> dict[str, str]:
    (pip,) = (entry for entry in yaml.safe_load((ENVS / name).read_text())["dependencies"] if isinstance(entry, dict))
    return exact(pip["pip"])


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# Pins and lock


def test_every_direct_pin_is_in_the_lock_with_the_same_version() -> None:
    assert pins("requirements.txt").items() <= pins("requirements-lock.txt").items()


def test_lock_covers_whatever_the_direct_pins_need() -> None:
    lock = pins("requirements-lock.txt")
    waiting, seen = set(pins("requirements.txt")), set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for text in importlib.metadata.requires(name) or ():
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    other = canonicalize_name(requirement.name)
                    of_cuda = name == "torch" and re.match(r"nvidia-|cuda-|triton|pytorch-triton", other)
                    waiting |= set() if of_cuda or other in seen else {other}
    assert seen <= set(lock)


@pytest.mark.parametrize("name", ["requirements-lock.txt", "requirements-cuda.txt"])
def test_every_package_is_checked_by_content(name: str) -> None:
    entries = re.split(r"\n(?=\w)", (ENVS / name).read_text())[1:]
    assert len(entries) == len(pins(name)) > 15
    for entry in entries:
        hashes = re.findall(r"^    --hash=sha256:([0-9a-f]{64})(?: \\)?$", entry, flags=re.MULTILINE)
        assert len(hashes) == len(set(hashes)) > 0, entry[:40]


def test_torch_is_pinned_apart_from_cudas_libraries() -> None:
    assert pins("requirements-lock.txt")["torch"] == "2.13.0"
    text = (ENVS / "requirements-lock.txt").read_text()
    torch = text[text.index("\ntorch==") : text.index("\ntorchaudio==")]
    assert "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b" in torch
    cuda = pins("requirements-cuda.txt")
    assert {"nvidia-cublas", "triton"} <= set(cuda) and not set(cuda) & set(pins("requirements-lock.txt"))


def test_pyproject_allows_the_lock() -> None:
    lock, about = pins("requirements-lock.txt"), project()
    optional = about.get("optional-dependencies", {}).values()
    ranges = [Requirement(text) for text in (*about["dependencies"], *(text for group in optional for text in group))]
    for requirement in ranges:
        assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)]), requirement
    allowed = {canonicalize_name(requirement.name): requirement.specifier for requirement in ranges}
    assert allowed["torch"] == SpecifierSet(">=2.11")
    assert SpecifierSet(about["requires-python"]) == SpecifierSet(">=3.11")
    assert about["name"] == "three_regime"


# Imports


@pytest.mark.parametrize("folder", ["three_regime", "scripts", "tests", "benchmarks"])
def test_every_import_is_a_direct_pin(folder: str) -> None:
    found = set().union(*(third_party(imports(file)) for file in (ROOT / folder).rglob("*.py")))
    assert found <= set(pins("requirements.txt"))


def test_the_library_imports_only_what_pyproject_names() -> None:
    files = (ROOT / "three_regime").rglob("*.py")
    found = set().union(*(third_party(imports(file)) for file in files))
    named = {canonicalize_name(Requirement(text).name) for text in project()["dependencies"]}
    assert found - {"ve-fairseq", "sacrebleu"} <= named  # translation needs the third-party fairseq, the lock has it


@pytest.mark.parametrize("name", ["torch.yaml", "analysis.yaml"])
def test_conda_environments_pin_the_locked_versions(name: str) -> None:
    assert conda_pins(name).items() <= pins("requirements.txt").items()


@pytest.mark.parametrize(("script", "environment"), rules_with_scripts().items())
def test_conda_environment_holds_what_its_scripts_import(script: str, environment: str) -> None:
    file = ROOT / "scripts" / f"{script}.py"
    found = needed(file)
    assert "numpy" in found  # imports were followed
    if environment == "analysis.yaml":
        heavy = {"torch", "torchvision", "scikit-learn", "ve-fairseq", "sentencepiece"}
        found -= heavy  # named in functions that these scripts do not call
        assert not heavy & needed(file, at_import=True)
    assert found <= set(conda_pins(environment))


def test_analysis_needs_no_torch() -> None:
    assert not {"torch", "torchvision"} & set(conda_pins("analysis.yaml"))


# Files


def test_tracked_files_name_no_absolute_path() -> None:
    homes = "|".join(("work", "root", "home", "Users", "farm", r"tmp/\w+"))
    pattern = re.compile(r"(?<![\w.~})\]])/(" + homes + ")/")
    found = []
    for path in tracked():
        with contextlib.suppress(UnicodeDecodeError):
            lines = path.read_text().splitlines()
            found += [f"{path.name}: {line.strip()[:80]}" for line in lines if pattern.search(line)]
    assert not found


def test_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == project()["license"]


# make


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=cwd, env=clean, capture_output=True, text=True, timeout=60)


def phony() -> set[str]:
    line, _ = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return set(line.split())  # the second line: what others need first


@pytest.mark.parametrize("arguments", [["help"], []])
def test_help_lists_every_target(arguments: list[str]) -> None:
    lines = make(*arguments).stdout.splitlines()
    listed = {line.split()[0] for line in lines if line.startswith("  ") and len(line.split()) > 2}
    assert phony() <= listed
    assert {"demo", "test"} <= phony()


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_make_the_environment_first(target: str) -> None:
    planned = make("-n", target).stdout
    assert planned.index("envs/install.py") < planned.index('".venv/bin/python" -m')
    elsewhere = make("-n", target, "VENV=/scratch/my env").stdout
    assert 'envs/install.py "/scratch/my env"' in elsewhere
    assert '"/scratch/my env/bin/python" -m' in elsewhere
    assert ".venv" not in elsewhere


@pytest.mark.parametrize("target", ["run", "dryrun"])
def test_without_a_preset_the_presets_and_their_price_are_shown(tmp_path: Path, target: str) -> None:
    for name in ("Makefile", "config", "benchmarks/plans"):
        source, copy = ROOT / name, tmp_path / name
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    ended = make(target, cwd=tmp_path)
    assert ended.returncode
    listed = {line.split()[0].rstrip("*"): line for line in ended.stdout.splitlines() if line.strip()}
    assert {path.stem for path in (ROOT / "config").glob("*.yaml")} < set(listed)
    assert float(listed["figure2"].split()[1].replace(",", "")) > 1000
    assert "Nothing was started" in ended.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("target", ["run", "dryrun", "slurm"])
def test_a_preset_that_does_not_exist_is_one_sentence(tmp_path: Path, target: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/figure2.yaml").touch()
    ended = make(target, "PRESET=nosuch", cwd=tmp_path)
    assert ended.returncode
    sentence, _ = ended.stderr.splitlines()  # and make's own
    assert sentence == "There is no preset 'nosuch' (config/nosuch.yaml); there are: figure2"


def test_a_dryrun_installs_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/demo.yaml").touch()
    ended = make("dryrun", "PRESET=demo", cwd=tmp_path)
    assert ended.returncode
    assert "There is no environment in .venv yet: make env" in ended.stderr
    assert not (tmp_path / ".venv").exists()


def test_clean_touches_neither_results_nor_data_nor_environment(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = [
        "results/demo/cells.csv",
        "results/.state/run.safetensors",
        "results/__pycache__/kept",
        "data/raw/cifar10/archive.tar.gz",
        "offline/archive.tar.gz",
        ".venv/lib/__pycache__/module.pyc",
        ".snakemake/metadata/file",
        "three_regime/system/files.py",
    ]
    removed = [
        "three_regime/jobs/__pycache__/a.pyc",
        ".pytest_cache/v",
        ".ruff_cache/v",
        "three_regime.egg-info/PKG-INFO",
    ]
    for name in kept + removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert make("clean", cwd=tmp_path).returncode == 0
    assert [name for name in kept + removed if (tmp_path / name).exists()] == kept


def test_without_python_make_says_what_is_missing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    ended = make("env", "PYTHON=/nowhere/python3", cwd=tmp_path)
    assert ended.returncode
    assert "No Python 3.11" in ended.stderr
    assert "/nowhere/python3" in ended.stderr


# envs/install.py


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
    assert exact(constraints.splitlines()) == pins("requirements-lock.txt")
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
