"""Recomputing LMC and CKA from the networks of an export."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from checkout import ROOT, Checkout
from finished import NAME, copied, inside, study_of, tiny

from three_regime.analysis import regime_tables
from three_regime.config import load
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.exchange import remeasure as remeasuring
from three_regime.exchange.export import export
from three_regime.exchange.remeasure import TABLE, archived_pairs, remeasure
from three_regime.study.grid import planned
from three_regime.system.files import read_table
from three_regime.system.manifest import MANIFEST


@pytest.fixture
def archive(finished_tiny: Checkout, tmp_path: Path) -> Path:
    """An export with weights, and the folder of the study's raw images beside it."""
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        regime_tables.write(study_of(tiny()).folder, Thresholds())
        return (own.path / export(tiny(), Path("archive"), weights=True)).resolve()


def test_the_networks_give_the_archived_numbers(archive: Path, tmp_path: Path) -> None:
    table = remeasure(archive, tmp_path, tmp_path / "out")
    assert len(table) == len(list(archived_pairs(archive))) == 4
    assert table["lmc"].to_numpy() == pytest.approx(table["lmc_archived"].to_numpy(), abs=1e-6)
    assert table["cka_softmax"].to_numpy() == pytest.approx(table["cka_softmax_archived"].to_numpy(), abs=1e-5)
    assert (tmp_path / "out" / TABLE).is_file()


def test_a_stopped_call_continues(archive: Path, tmp_path: Path) -> None:
    first = remeasure(archive, tmp_path, tmp_path / "out")
    results = sorted((tmp_path / "out").rglob("lmc.json"))
    times = [path.stat().st_mtime_ns for path in results]
    results[0].unlink()
    again = remeasure(archive, tmp_path, tmp_path / "out")
    assert again.equals(first)
    assert [path.stat().st_mtime_ns for path in results[1:]] == times[1:], "measured pairs are kept"


def test_an_export_without_weights_is_refused(archive: Path, tmp_path: Path) -> None:
    for path in archive.rglob("retrained.safetensors"):
        path.unlink()
    with pytest.raises(UserError, match="--weights"):
        remeasure(archive, tmp_path, tmp_path / "out")


def test_weights_are_those_of_the_results(archive: Path) -> None:
    results = archive.parent / "results" / "tiny" / NAME
    packed = sorted(path.relative_to(archive / NAME) for path in (archive / NAME).rglob("*.safetensors"))
    assert {path.name for path in packed} == {"dense.safetensors", "retrained.safetensors"}
    for path in packed:
        assert (archive / NAME / path).read_bytes() == (results / path).read_bytes()


def test_translations_are_measured_on_the_pairs_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load([ROOT / "config.yaml", ROOT / "config" / "tiny-translation.yaml"])
    study = planned(config)[0]
    asked: list[dict] = []
    for name in ("lmc_of_files", "cka_of_files"):
        monkeypatch.setattr(remeasuring, name, lambda *files, **counts: asked.append(counts))
    pair = remeasuring.Pair(study, pd.Series(dtype=object), Path("pair1-2"), tmp_path / "a", tmp_path / "b")
    remeasuring._measure(pair, tmp_path, tmp_path / "out", None, None)
    line, outputs = asked
    measure = study.config.measure
    assert (line["train_images"], line["test_images"]) == (measure.train_pairs, study.config.dataset.validation_pairs)
    assert line["at_most"] and outputs == {"train_images": measure.train_pairs, "measure": measure}


def test_a_folder_keeps_to_one_archive_and_its_numbers(archive: Path, tmp_path: Path) -> None:
    few = remeasure(archive, tmp_path, tmp_path / "out", train_images=50, test_images=20)
    assert remeasure(archive, tmp_path, tmp_path / "out", train_images=50, test_images=20).equals(few)
    with pytest.raises(UserError, match="use another --out"):
        remeasure(archive, tmp_path, tmp_path / "out")


def test_other_networks_with_the_same_settings_are_refused(archive: Path, tmp_path: Path) -> None:
    """Whether or not the archives have a manifest."""
    remeasure(archive, tmp_path, tmp_path / "out", train_images=50, test_images=20)
    (archive / MANIFEST).unlink()
    remeasure(archive, tmp_path, tmp_path / "out", train_images=50, test_images=20)
    first, second = sorted(archive.rglob("replica1/retrained.safetensors"))[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match="measurements of another export"):
        remeasure(archive, tmp_path, tmp_path / "out", train_images=50, test_images=20)


@pytest.mark.parametrize(("column", "value"), [("pair", "1-2-3"), ("pair", "../../x-2"), ("dense_seed", 7)])
def test_rows_of_no_pair_of_the_study_are_refused(archive: Path, tmp_path: Path, column: str, value: object) -> None:
    """Paths are made of them."""
    (archive / MANIFEST).unlink()
    path = archive / NAME / "pairs.csv"
    read_table(path).assign(**{column: value}).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"pairs\.csv, line 2: not a pair of tiny with the settings"):
        remeasure(archive, tmp_path, tmp_path / "out")


def test_an_altered_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    path = archive / NAME / "pairs.csv"
    path.write_text(path.read_text().replace("1-2", "2-1"))
    with pytest.raises(UserError, match="altered since the export was packed"):
        remeasure(archive, tmp_path, tmp_path / "out")
