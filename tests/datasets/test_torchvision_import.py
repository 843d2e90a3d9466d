"""Importing torchvision, real and simulated."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from three_regime.datasets import torchvision_import

MISSING = "operator torchvision::nms does not exist"
PRETENDED = {
    "fits": "loads = 1",
    "misfits": f"""
import torch, torchvision.part
try:
    schema = torch.ops.torchvision.nms.default._schema, torch.ops.torchvision.qnms.default._schema
except AttributeError:
    raise RuntimeError("{MISSING}") from None
""",
    "broken": 'raise RuntimeError("operator torchvision::roi_align does not exist")',
    "absent": 'raise ModuleNotFoundError("No module named PIL")',
    "hopeless": f'raise RuntimeError("{MISSING}")',
}


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    prelude = f"import sys; sys.path[:0] = {[str(path) for path in (*paths, ROOT)]!r}\n"
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=120)


def pretend(folder: Path, kind: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(PRETENDED[kind])
    (package / "part.py").write_text("")
    return folder


IMPORT = "from three_regime.datasets.torchvision_import import _libraries, import_torchvision\n"


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_the_installed_torchvision_gives_what_is_needed():
    done = python(
        IMPORT
        + """
module = import_torchvision()
assert import_torchvision() is module is sys.modules["torchvision"]
import torch
from torchvision.transforms import v2
assert issubclass(module.datasets.CIFAR10, torch.utils.data.Dataset)
assert v2.CenterCrop(2)(torch.zeros(3, 4, 4)).shape == (3, 2, 2)
"""
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_nms_is_declared_and_the_import_repeated(tmp_path):
    code = """
module = import_torchvision()
assert module.schema and len(_libraries) == 1
assert import_torchvision() is module and len(_libraries) == 1
assert sys.modules["torchvision.part"] is module.part
"""
    done = python(IMPORT + code, pretend(tmp_path, "misfits"))
    assert done.returncode == 0, done.stderr


def test_an_import_that_still_fails_says_so(tmp_path):
    done = python(IMPORT + "import_torchvision()", pretend(tmp_path, "hopeless"))
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"RuntimeError: {MISSING}")


@pytest.fixture
def without_torchvision():
    """This interpreter before any import of torchvision."""

    def forget():
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torchvision"}

    kept = forget()
    yield
    forget()
    sys.modules.update(kept)


@pytest.mark.usefixtures("without_torchvision")
def test_nothing_is_declared_where_the_import_works(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(pretend(tmp_path, "fits"))
    before = len(torchvision_import._libraries)
    assert torchvision_import.import_torchvision().loads == 1
    assert len(torchvision_import._libraries) == before


@pytest.mark.usefixtures("without_torchvision")
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [("broken", RuntimeError, "roi_align does not exist"), ("absent", ModuleNotFoundError, "No module named PIL")],
)
def test_other_failures_are_passed_on(tmp_path, monkeypatch, kind, error, message):
    monkeypatch.syspath_prepend(pretend(tmp_path, kind))
    before = len(torchvision_import._libraries)
    with pytest.raises(error, match=message):
        torchvision_import.import_torchvision()
    assert len(torchvision_import._libraries) == before
