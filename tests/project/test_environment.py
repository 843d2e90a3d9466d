"""Environment: pins, lock, imports and conda environments agree."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

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
