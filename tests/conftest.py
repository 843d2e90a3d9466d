"""Fixtures shared by the tests."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
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

if TYPE_CHECKING:
    from three_regime.kernels.binding import Library


@pytest.fixture(scope="session")
def cifar10_batches(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the real ``cifar-10-batches-py``, rebuilt once (13 s) and then kept in pytest's cache."""
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
def _plain_kernels() -> None:
    """Tests compute with torch's operations until a job or a test asks for the compiled kernels."""
    kernels.allow("plain")


@pytest.fixture
def library() -> Iterator[Library]:
    """The compiled kernels; work is divided among threads, so that torch's number of them is put back."""
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


@pytest.fixture(scope="session")
def finished_tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the finished results of ``config/tiny.yaml``, made once without Snakemake; not to be changed."""
    return finish(tmp_path_factory.mktemp("finished") / "checkout")


@pytest.fixture(scope="session")
def complete_tiny(finished_tiny: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The same run to its end by Snakemake, so that nothing is to be done; not to be changed."""
    checkout = copied(finished_tiny, tmp_path_factory.mktemp("complete") / "checkout")
    checkout.run(*OPTIONS)
    return checkout


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage of the smallest study (`tiny_study`) is done; not to be changed."""
    return compute_all(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def study_folder(finished_study: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    shutil.copytree(finished_study, tmp_path, dirs_exist_ok=True)
    return tmp_path
