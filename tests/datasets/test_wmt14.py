"""WMT14 and Multi30k from archives and folders to binary files, over local HTTP, with and without the workflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sacrebleu.dataset
import yaml
from checkout import Checkout, copy_to
from serving import Server, serving
from toy_source import QUICK, packed
from written_corpus import REAL, STUDY, Pair, real, sgml

from three_regime.datasets import sources as table
from three_regime.datasets import wmt14
from three_regime.datasets.registry import DATASETS
from three_regime.datasets.sources import Source, load_sources
from three_regime.errors import UserError
from three_regime.jobs.without_snakemake import run_stage
from three_regime.preparation.download import obtain
from three_regime.preparation.prepared_text import open_text

WMT14, MULTI30K = DATASETS["wmt14-de-en"], DATASETS["multi30k-de-en"]
PARTS = {"training/europarl-v7.de-en": 6000, "commoncrawl.de-en": 2500, "training/news-commentary-v9.de-en": 1500}


def test_test_sets_have_sacrebleus_addresses_and_digests() -> None:
    for name, known in (("wmt14_newstest2013", "wmt13"), ("wmt14_newstest2014", "wmt14/full")):
        source, theirs = load_sources()[name], sacrebleu.dataset.DATASETS[known]
        assert (source.urls[0].removeprefix("https://www."), source.digest) == (
            theirs.data[0].removeprefix("https://"),
            f"md5:{theirs.md5[0]}",
        )
        assert list(source.members) == theirs.langpairs["de-en"][:2]


def test_every_file_that_is_read_is_downloaded() -> None:
    members = {path for name in WMT14.sources for path in load_sources()[name].files}
    read = {f"{name}.{language}" for name in wmt14.TRAIN for language in WMT14.languages}
    assert members == read | {path for pair in wmt14.HELD_OUT.values() for path in pair}
    assert sum(wmt14.TRAIN.values()) == WMT14.train_pairs


@pytest.fixture(scope="module")
def archives() -> dict[str, dict[str, bytes]]:
    """Source → members, made of real text: training pairs cut in three, newstest2014, and its start as newstest2013."""
    train, test = real("wmtmix10k.tok"), real("newstest2014")
    members: dict[str, bytes] = {}
    start = 0
    for name, size in PARTS.items():
        for side, language in enumerate(("de", "en")):
            lines = [pair[side] for pair in train[start : start + size]]
            members[f"{name}.{language}"] = "".join(f"{line}\n" for line in lines).encode()
        start += size
    for split, pairs in (("validation", test[:300]), ("test", test)):
        for side, path in enumerate(wmt14.HELD_OUT[split]):
            members[path] = sgml(("srcset", "refset")[side], [pair[side] for pair in pairs])
    other = {"README": b"not asked for"}
    return {name: {**other, **{path: members[path] for path in load_sources()[name].files}} for name in WMT14.sources}


@pytest.fixture
def served(archives: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> Server:
    """The archives on a server of this machine, and a table of downloads that points there."""
    monkeypatch.setattr(wmt14, "TRAIN", PARTS)
    monkeypatch.setitem(DATASETS, "wmt14-de-en", replace(WMT14, validation_pairs=300, train_pairs=10_000))
    sources = load_sources()
    with serving() as server:
        for name in WMT14.sources:
            server.files[sources[name].file] = packed(archives[name], level=1)
            sources[name] = changed(sources[name], urls=(server.url(sources[name].file),), digest=None, bytes=None)
        monkeypatch.setattr(table, "load_sources", lambda: sources)
        yield server


def changed(source: Source, **attributes: Any) -> Source:
    return Source(**{**vars(source), **attributes})


def configuration(folder: Path, dataset: dict[str, Any], **data: Any) -> list[Path]:
    path = folder / "config.yaml"
    places = {"folder": str(folder / "data"), "offline": [], **data}
    study = {**STUDY, "dataset": dataset}
    path.write_text(yaml.safe_dump({"run": ["text"], "data": places, "studies": {"text": study}}))
    return [path]


def test_wmt14_from_download_to_tokens(served: Server, tmp_path: Path) -> None:
    choice = {"name": "wmt14-de-en", "train_pairs": 7000, "subwords": 2000}
    run_stage("prepare", configuration(tmp_path, choice))
    text = open_text(tmp_path / "data" / "wmt14-de-en-7000-2000" / "prepared.safetensors")
    assert text.sizes == {"train": 7000, "validation": 300, "test": 3003}
    assert text.references("test") == [english.strip() for _, english in real("newstest2014")]
    asked = len(served.requests)
    assert asked == 5
    run_stage("prepare", configuration(tmp_path, choice))
    assert len(served.requests) == asked
    recorded = tmp_path / "data/raw/wmt14-de-en/test-full.tgz.digests.json"
    assert wmt14.HELD_OUT["test"][0] in recorded.read_text()


def test_a_digest_recorded_at_the_first_download_is_enforced(served: Server, tmp_path: Path) -> None:
    source = table.load_sources()["wmt14_newstest2014"]
    german, _ = obtain(source, tmp_path, patience=QUICK)
    whole = german.read_bytes()
    german.write_bytes(whole[:-100])
    obtain(source, tmp_path, patience=QUICK)
    assert german.read_bytes() == whole
    german.unlink()
    served.files[source.file] = packed(dict.fromkeys(source.files, b"something else"))
    with pytest.raises(UserError, match=r"recorded at the first download; delete .*test-full\.tgz\.digests\.json"):
        obtain(source, tmp_path, patience=QUICK)


def test_a_missing_member_is_named(served: Server, tmp_path: Path) -> None:
    source = table.load_sources()["wmt14_europarl"]
    served.files[source.file] = packed({"training/europarl-v7.de-en.de": b"nur deutsch\n"})
    with pytest.raises(UserError, match=r"the archive lacks training/europarl-v7\.de-en\.en") as error:
        obtain(source, tmp_path, patience=QUICK)
    assert "Put training-parallel-europarl-v7.tgz" in str(error.value)
    assert not list(tmp_path.rglob("europarl*"))


def test_a_training_file_of_another_length_is_refused(served: Server, tmp_path: Path) -> None:
    source = table.load_sources()["wmt14_commoncrawl"]
    served.files[source.file] = packed(dict.fromkeys(source.files, b"zu kurz\n"))
    with pytest.raises(UserError, match=r"commoncrawl\.de-en\.de and .*\.en have 1 lines instead of 2,500"):
        run_stage("prepare", configuration(tmp_path, {"name": "wmt14-de-en", "subwords": 500}))


def test_multi30k_from_an_offline_folder(tmp_path: Path) -> None:
    pairs: list[Pair] = real("multi30k.test_2016_flickr")
    choice = {"name": "multi30k-de-en", "train_pairs": 2000, "subwords": 1000}
    run_stage("prepare", configuration(tmp_path, choice, offline=[str(REAL)]))
    text = open_text(tmp_path / "data" / "multi30k-de-en-2000-1000" / "prepared.safetensors")
    assert text.sizes == {"train": 2000, "validation": 1014, "test": 1000}
    assert list(zip(text.sources("test"), text.references("test"), strict=True)) == pairs


def test_without_the_offline_folder_it_is_said_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no multi30k\.train\.de\nPut multi30k\.train\.de .*and run again"):
        files = configuration(tmp_path, {"name": "multi30k-de-en", "subwords": 1000}, offline=[str(tmp_path / "none")])
        (tmp_path / "none").mkdir()
        run_stage("prepare", files)


@pytest.mark.slow
def test_the_workflow_downloads_once_and_prepares_each_text_once(tmp_path: Path) -> None:
    checkout = copy_to(tmp_path / "checkout")
    datasets = {
        "first": {"name": "wmt14-de-en", "train_pairs": 1000},
        "second": {"name": "wmt14-de-en", "train_pairs": 1000, "validation_pairs": 50},
        "third": {"name": "wmt14-de-en"},
        "fourth": {"name": "toy", "subwords": 200, "train_pairs": 150},
    }
    studies = {name: {**STUDY, "dataset": dataset} for name, dataset in datasets.items()}
    overlay = checkout.path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"run": list(studies), "published": False, "studies": studies}))
    options = ("--configfile", "overlay.yaml")
    without = checkout.without("fairseq", "sentencepiece", "torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkout, "environment", lambda _: without)
        planned = checkout.planned("data", *options)
    assert planned == {
        **{f"download_{name}": 1 for name in WMT14.sources},
        **{f"prepare_{name}": 1 for name in ("wmt14_de_en_1000_32000", "wmt14_de_en_all_32000", "toy_150_200")},
        "data": 1,
    }
    checkout.run("data/toy-150-200/prepared.safetensors", *options)
    assert open_text(checkout.path / "data/toy-150-200/prepared.safetensors").sizes["train"] == 150
    assert checkout.planned("data/toy-150-200/prepared.safetensors", *options) == {}
    overlay.write_text(overlay.read_text().replace("subwords: 200", "subwords: 200\n      ratio: 1.5"))
    assert checkout.planned("data/toy-150-200/prepared.safetensors", *options) == {"prepare_toy_150_200": 1}
