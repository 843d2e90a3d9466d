"""Fixtures shared by the tests."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import Checkout
from filelock import FileLock
from finished import OPTIONS, copied, finish
from tiny_study import compute_all

from benchmarks.setting import MOSAICS, rebuild_cifar10
from three_regime import kernels
from three_regime.datasets.sources import load_sources
from three_regime.logs import TERSE
from three_regime.system.openmp import spin_briefly

if TYPE_CHECKING:
    from three_regime.kernels.binding import Library

TESTS = Path(__file__).parent

spin_briefly()  # torch is imported by the tests; xdist's workers share the cores
os.environ[TERSE] = "0"  # tests read what Snakemake and jobs print; those of the terse output ask for it

LONGEST_FIRST = ("cluster", "workflow", "project", "jobs", "training", "tasks", "kernels")
"""Folders whose files take longest; the others follow in the order of the alphabet."""


@pytest.fixture(scope="session")
def cifar10_batches(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the real ``cifar-10-batches-py``, rebuilt once (13 s) and kept in pytest's cache."""
    if not (MOSAICS / "rebuild.py").is_file():
        pytest.skip(f"the real CIFAR-10 is not at {MOSAICS}")
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("cifar10") if cache else tmp_path_factory.mktemp("cifar10")
    members = load_sources()["cifar10"].members
    with FileLock(folder / ".lock"):
        if not _complete(folder, members):
            rebuild_cifar10(folder)
            assert _complete(folder, members)
    return folder


@pytest.fixture(autouse=True)
def _plain_kernels() -> Iterator[None]:
    """Use torch's operations unless a job or a test requests the compiled kernels.

    Also afterwards, because fixtures of the next module are set up before this one.
    """
    kernels.allow("plain")
    yield
    kernels.allow("plain")


@pytest.fixture
def library() -> Iterator[Library]:
    """The compiled kernels; torch's number of threads is restored afterwards."""
    import torch

    found = kernels.library()
    if found is None:
        pytest.skip("the kernels cannot be compiled here")
    threads = torch.get_num_threads()
    yield found
    torch.set_num_threads(threads)


def _complete(folder: Path, members: dict[str, str]) -> bool:
    return all(
        (folder / name).is_file() and f"md5:{hashlib.md5((folder / name).read_bytes()).hexdigest()}" == digest
        for name, digest in members.items()
    )


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a read-only folder that the first worker fills with `make` while the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def finished_tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Read-only checkout with the finished results of ``config/tiny.yaml``, made once without Snakemake."""
    return Checkout(_once(tmp_path_factory, "finished-tiny", finish))


@pytest.fixture(scope="session")
def complete_tiny(finished_tiny: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The same after a complete Snakemake run, with nothing left to do; read-only.

    A test that asks for it goes on with real runs of Snakemake, so it is `slow`.
    """
    return Checkout(
        _once(tmp_path_factory, "complete-tiny", lambda folder: copied(finished_tiny, folder).run(*OPTIONS))
    )


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only folder in which every stage of the smallest study (`tiny_study`) is complete."""
    return _once(tmp_path_factory, "finished-study", compute_all)


@pytest.fixture
def study_folder(finished_study: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(finished_study, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a whole run of Snakemake as slow, and put the longest folders first, so that workers end together.

    Before pytest's own hook, which deselects by marker.
    """
    for item in items:
        if "complete_tiny" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
        if "cluster" in item.path.relative_to(TESTS).parts:
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: _turn(item.path))


def _turn(file: Path) -> int:
    folder = file.relative_to(TESTS).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With ``--dist loadfile``: a worker takes a file at a time, and one worker all files that need the one cluster."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneCluster(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/cluster" if file.startswith("tests/cluster/") else file

    return OneCluster(config, log)
