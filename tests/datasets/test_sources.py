"""Table of downloads: digests, and messages about errors in it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from three_regime.datasets.sources import load_sources
from three_regime.datasets.torchvision_import import import_torchvision
from three_regime.errors import UserError


def test_the_table_holds_torchvisions_digests() -> None:
    known, sources = import_torchvision().datasets, load_sources()
    for name, dataset in (("cifar10", known.CIFAR10), ("cifar100", known.CIFAR100)):
        members = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        assert sources[name].members == {f"{dataset.base_folder}/{file}": f"md5:{digest}" for file, digest in members}
        assert (sources[name].urls[0], sources[name].file) == (dataset.url, dataset.filename)
        assert sources[name].digest == f"md5:{dataset.tgz_md5}"
    for split in ("train", "test"):
        url, file, digest = known.SVHN.split_list[split]
        source = sources[f"svhn_{split}"]
        assert (source.urls[0], source.files) == (url, {file: f"md5:{digest}"})


def test_what_has_no_mirror_says_so() -> None:
    """Two names of one host are no mirror."""
    for name, source in load_sources().items():
        hosts = {urlsplit(url).hostname.removeprefix("www.") for url in source.urls}
        assert ("No verified mirror is known." in source.note) == (len(hosts) == 1), name


GOOD = """
toy:
  dataset: toys
  file: toy.tar.gz
  urls: [https://example.org/toy.tar.gz]
  licence: none
  members: {toy/a: null}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("urls:", "url:", r"toy\.url: unknown key; did you mean 'urls'\?"),
        ("licence: none", "", r"toy\.licence: .*required"),
        ("licence:", "digest: md5:12\n  licence:", r"toy\.digest: "),
        ("https:", "ftp:", r"toy\.urls\.0: "),
        ("toy/a", "../a", r"toy\.members: .*without '\.\.'"),
        ("toy/a", "/a", r"toy\.members: .*plain relative path"),
        ("toy.tar.gz\n", "toy.mat\n", r"toy\.members: .*is not an archive"),
        ("toy:\n", "toy: [\n", "is not valid YAML"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = tmp_path / "sources.yaml"
    table.write_text(GOOD)
    assert load_sources(table)["toy"].digest is None
    table.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load_sources(table)
