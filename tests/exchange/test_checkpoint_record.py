"""Record beside a checkpoint; single checkpoints are never measured on another corpus."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from three_regime.cli import main
from three_regime.datasets.corpora import MANIFEST
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.exchange.checkpoint_record import CheckpointRecord, check_corpus, corpus_of, read_record
from three_regime.exchange.single_checkpoints import cka_of_files, lmc_of_files
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.system.files import DIGEST_KEY, read_metadata, tensor_digest, write_arrays, write_json

MODEL = "preresnet-8x0.25"


def corpus(folder: Path, content: int) -> str:
    """A manifest, without the files that it names; returns its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_arrays(folder / MANIFEST, {"pairs": np.array([content])}, {})


def record(path: Path, inputs: dict[str, str], **provenance: object) -> None:
    write_json(path, {"provenance": {"inputs": inputs, **provenance}})


def image_checkpoint(path: Path) -> Path:
    network = families.build(MODEL, classes=10, channels=1, image_size=8)
    write_arrays(path, initial_weights(network, np.random.default_rng(1)), {})
    return path


def test_the_record_beside_a_checkpoint_is_read(tmp_path: Path) -> None:
    path = tmp_path / "retrained.safetensors"
    assert read_record(path) == CheckpointRecord(None, None, None)
    record(path.with_suffix(".json"), {"data": "d", "pruned": "p"}, recipe={"model": "m", "dataset": "toy"})
    assert read_record(path) == CheckpointRecord("m", "toy", "d")
    for foreign in (
        "[1]", '{"provenance": "mine"}', "{", "{}",
        '{"provenance": {"recipe": "x"}}', '{"provenance": {"inputs": ["a"]}}',
        '{"provenance": {"recipe": {"model": 3, "dataset": [], "label_noise": "x"}, "inputs": {"data": 5}}}',
    ):  # fmt: skip
        path.with_suffix(".json").write_text(foreign)
        assert read_record(path) == CheckpointRecord(None, None, None)


def test_a_pruned_checkpoint_has_the_data_of_its_dense_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "density050"
    record(folder / "pruned.json", {"dense": "w"}, recipe={"model": "m"})
    record(tmp_path / "dense.json", {"data": "d"}, recipe={"model": "m", "dataset": "toy"}, **{DIGEST_KEY: "w"})
    assert read_record(folder / "pruned.safetensors") == CheckpointRecord("m", "toy", "d")
    monkeypatch.chdir(folder)
    assert read_record(Path("pruned.safetensors")) == CheckpointRecord("m", "toy", "d")
    record(tmp_path / "dense.json", {"data": "d"}, recipe={"dataset": "toy"}, **{DIGEST_KEY: "another"})
    assert read_record(folder / "pruned.safetensors") == CheckpointRecord("m", None, None)


def test_lmc_of_networks_trained_with_label_noise_is_refused(tmp_path: Path) -> None:
    pair = [image_checkpoint(tmp_path / f"density050/{name}.safetensors") for name in "ab"]
    settings = {"train_images": 20, "test_images": 10, "batch_size": 10, "points": 3}
    record(pair[0].with_suffix(".json"), {"data": "d"}, recipe={"dataset": "digits"})
    lmc_of_files(*pair, MODEL, "digits", tmp_path, tmp_path / "clean.json", **settings)
    noisy = {"dataset": "digits", "label_noise": 0.2}
    record(pair[1].with_suffix(".json"), {"data": "d"}, recipe=noisy)
    with pytest.raises(UserError, match=r"b\.safetensors was trained with label noise 0\.2.*run-stage lmc"):
        lmc_of_files(*pair, MODEL, "digits", tmp_path, tmp_path / "out.json", **settings)
    record(pair[1].with_suffix(".json"), {"dense": "w"}, recipe={"model": "m"})  # pruned
    record(tmp_path / "dense.json", {"data": "d"}, recipe=noisy, **{DIGEST_KEY: "w"})
    assert read_record(pair[1]) == CheckpointRecord("m", "digits", "d", 0.2)
    assert not (tmp_path / "out.json").exists()


def test_the_corpus_is_found_by_its_digest_and_another_refused(tmp_path: Path) -> None:
    own, other = corpus(tmp_path / "own", 1), corpus(tmp_path / "a" / "other", 2)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / MANIFEST).write_bytes(b"?")
    network, origin = tmp_path / "dense.safetensors", CheckpointRecord("m", "toy", own)
    assert corpus_of(network, origin, tmp_path) == tmp_path / "own" / MANIFEST
    assert corpus_of(network, origin, tmp_path / "own") == tmp_path / "own" / MANIFEST
    with pytest.raises(UserError, match=rf"prepared toy with digest {own[:12]}…, which is not below .*/a; name its"):
        corpus_of(network, origin, tmp_path / "a")
    with pytest.raises(
        UserError, match=rf"{own[:12]}…, and .*/a/other has digest {other[:12]}…: .*or prepare it again"
    ):
        corpus_of(network, origin, tmp_path / "a" / "other")
    corpus(tmp_path / "again", 2)
    with pytest.raises(UserError, match=rf"has digest {other[:12]}…: its pairs or subwords differ; use --data .*/own$"):
        check_corpus(network, origin, tmp_path / "again")
    check_corpus(network, CheckpointRecord("m", None, None), tmp_path / "again")
    with pytest.raises(UserError, match="does not say which prepared corpus below"):
        corpus_of(network, CheckpointRecord("m", None, None), tmp_path)


def test_other_images_are_said_and_not_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = tensor_digest(DATASETS["digits"].read(tmp_path))
    pair = [image_checkpoint(tmp_path / f"{name}.safetensors") for name in "ab"]
    record(pair[0].with_suffix(".json"), {"data": own}, recipe={"model": MODEL, "dataset": "digits"})
    with caplog.at_level(logging.WARNING, "three_regime"):
        cka_of_files(*pair, MODEL, "digits", tmp_path, tmp_path / "out.json", images=20)
        assert not caplog.records
        record(pair[1].with_suffix(".json"), {"data": "0" * 64}, recipe={"model": MODEL, "dataset": "cifar10"})
        cka_of_files(*pair, MODEL, "digits", tmp_path, tmp_path / "out.json", images=20)
    (line,) = caplog.messages
    assert line.startswith(f"{pair[1]} was trained on cifar10 with digest {'0' * 12}…, and is measured on digits")
    assert json.loads((tmp_path / "out.json").read_text())["images"] == 20


@pytest.mark.parametrize("command", ["translate", "lmc", "cka", "prune", "unpack"])
def test_a_missing_checkpoint_is_named_first(tmp_path: Path, command: str) -> None:
    absent, there = tmp_path / "absent.safetensors", image_checkpoint(tmp_path / "there.safetensors")
    both = ["--model", MODEL, "--dataset", "cifar10", "--data", tmp_path]
    arguments = {
        "translate": [absent, "--source", tmp_path / "in.de"],
        "lmc": [there, absent, *both],
        "cka": [there, absent, *both],
        "prune": [absent, "--model", "no-model", "--density", 0.5],
        "unpack": [absent],
    }[command]
    level = logging.getLogger("three_regime").level
    ended = CliRunner().invoke(main, [command, *map(str, arguments), "--out", str(tmp_path / "out")])
    logging.getLogger("three_regime").setLevel(level)
    assert ended.exit_code == 2
    assert "absent.safetensors is missing" in ended.output
    assert not (tmp_path / "out").exists()


def test_the_digest_of_images_is_that_of_their_prepared_file(tmp_path: Path) -> None:
    """What makes images that were prepared and raw ones comparable."""
    from three_regime.preparation.prepare import prepare

    prepare("digits", tmp_path)
    stored = read_metadata(tmp_path / "digits.safetensors")[DIGEST_KEY]
    assert stored == tensor_digest(DATASETS["digits"].read(tmp_path))
