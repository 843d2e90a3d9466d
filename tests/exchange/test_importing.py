"""Importing foreign checkpoints as results."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import Checkout
from click.testing import CliRunner
from finished import FILES, NAME, OPTIONS, compute, copied, inside, study_of, tiny
from torch import nn
from torch.nn.utils import prune

from three_regime.analysis import tables
from three_regime.cli import main
from three_regime.errors import UserError
from three_regime.exchange import importing
from three_regime.exchange.importing import find_product, import_checkpoint
from three_regime.jobs.run import run_job
from three_regime.models import families
from three_regime.pruning.masks import split_masks
from three_regime.study.products import pack
from three_regime.study.verdicts import judge
from three_regime.system.files import read_arrays, read_json, write_arrays

ELSEWHERE = Path("elsewhere/tiny/seed1")


@pytest.fixture
def own(finished_tiny: Checkout, tmp_path: Path) -> Checkout:
    """A checkout with prepared data and no results; those of the finished study lie ``elsewhere``."""
    own = copied(finished_tiny, tmp_path / "own")
    (own.path / "results/tiny").rename(own.path / "elsewhere")
    return own


def source(temperature: int = 2, density: int = 10, replica: int = 1) -> Path:
    return ELSEWHERE / f"epochs{temperature:03}/density{density:03}/replica{replica}/retrained.safetensors"


def bring(path: Path, **place: object) -> tuple[Path, ...]:
    return import_checkpoint(tiny(), path, NAME, **{"seed": 1, "temperature": 2, **place})


def test_with_imported_replicas_only_measuring_is_planned(own: Checkout) -> None:
    with inside(own):
        for temperature in (2, 4):
            for density in (10, 50):
                for replica in (1, 2):
                    bring(
                        source(temperature, density, replica),
                        temperature=temperature, density=density / 100, replica=replica,
                    )  # fmt: skip
    assert own.planned("landscape", *OPTIONS) == {"lmc_tiny": 2, "cka_tiny": 2, "landscape": 1}
    with inside(own):
        config = tiny()
        assert all(product.done for value in (2, 4) for product in pack(study_of(config), "retrain", 1, value))
        compute(config, "lmc")
        imported = {(finding.product.stage, finding.imported) for finding in judge(study_of(config)) if finding.done}
        assert imported == {("retrain", True), ("lmc", False)}
        found = tables.build(study_of(config))
        before = read_json(ELSEWHERE / "epochs004/density050/pair1-2/lmc.json")["lmc"]
    assert set(found["replicas"]["origin"]) == set(found["cells"]["origin"]) == {"imported"}
    assert len(found["pairs"]) == 4 and len(found["curves"]) == 0
    lmc = found["pairs"].set_index(["temperature", "density"])["lmc"]
    assert lmc[4, 0.5] == before, "the same networks have the same barrier"


def test_an_imported_replica_holds_the_same_tensors(own: Checkout) -> None:
    with inside(own):
        result, weights = bring(source(), density=0.1, replica=1)
        arrays, original = read_arrays(weights), read_arrays(source())
        found, before = read_json(result), read_json(source().with_suffix(".json"))
    assert arrays.keys() == original.keys()
    assert all(np.array_equal(arrays[name], original[name]) for name in original)
    assert found["history"] == []
    assert found["test_error"] == found["test"]["error"] == before["test"]["error"]
    assert found["train"] == pytest.approx(before["train"])  # the study evaluates by the engine
    record = found["provenance"]
    assert (record["origin"], record["inputs"]) == ("imported", {})
    assert record["source_sha256"] == hashlib.sha256((own.path / source()).read_bytes()).hexdigest()


def test_the_authors_format_is_taken_as_a_pruned_network(own: Checkout) -> None:
    network = families.build("preresnet-8x0.25", classes=10, channels=1, image_size=8)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            prune.l1_unstructured(module, "weight", amount=0.9)
        elif isinstance(module, nn.Linear):
            prune.identity(module, "weight")
    with inside(own):
        torch.save({"state_dict": nn.DataParallel(network).state_dict()}, "theirs.pth.tar")
        result, weights = bring(Path("theirs.pth.tar"), density=0.1)
        counts = read_json(result)["sparsity"]
        masks = split_masks(read_arrays(weights))[1]
        # The stage after it works on it.
        run_job(tiny(), NAME, "dense", 1)
        run_job(tiny(), NAME, "prune", 1, 2.0)
        assert read_json(result)["provenance"]["origin"] == "imported", "it was kept"
        run_job(tiny(), NAME, "retrain", 1, 2.0)
        trained = split_masks(read_arrays(result.parent / "replica1/retrained.safetensors"))[1]
    assert counts["layers"]["conv1.weight"] == {"kept": 4, "total": 36}
    assert all(np.array_equal(trained[name], mask) for name, mask in masks.items())


def test_a_dense_checkpoint_is_pruned_like_one_trained_here(own: Checkout) -> None:
    with inside(own):
        result, _ = bring(ELSEWHERE / "epochs002/dense.safetensors")
        assert read_json(result)["epoch"] == 2
        run_job(tiny(), NAME, "prune", 1, 2.0)
        after = read_arrays(Path("results/tiny/tiny/seed1/epochs002/density010/pruned.safetensors"))
        before = read_arrays(ELSEWHERE / "epochs002/density010/pruned.safetensors")
        assert all(np.array_equal(after[name], before[name]) for name in before)
        found = tables.build(study_of(tiny()))
    assert (found["cells"]["origin"] == "imported").tolist() == [True, True, False, False]
    with inside(own):
        assert run_job(tiny(), NAME, "dense", 1).kept == 1, "one run yields the other temperature, this one stays"


def test_only_a_change_of_its_own_stage_makes_it_stale(own: Checkout) -> None:
    with inside(own):
        bring(source(), density=0.1, replica=1)
        upstream = find_product(study_of(tiny(dense={"learning_rate": 0.2})), 1, 2, 0.1, 1)
        itself = find_product(study_of(tiny(retrain={"learning_rate": 0.2})), 1, 2, 0.1, 1)
        assert upstream.done
        assert itself.stored() not in (itself.imported_fingerprint, None)


def test_it_counts_for_its_own_place_alone(own: Checkout) -> None:
    with inside(own):
        paths = bring(source(), density=0.1, replica=1)
        other = find_product(study_of(tiny()), 1, 4, 0.1, 1)
        for path, target in zip(paths, other.outputs, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        assert other.stored() != other.imported_fingerprint


def test_counts_other_than_the_densitys_are_refused(own: Checkout) -> None:
    with inside(own), pytest.raises(UserError, match=r"conv1\.weight keeps 4 of 36 instead of 18.*more layers"):
        bring(source(density=10), density=0.5, replica=1)
    with inside(own):
        assert not Path("results/tiny/tiny/seed1").exists()


def test_one_weight_too_few_is_seen(own: Checkout) -> None:
    with inside(own):
        weights, masks = split_masks(read_arrays(source()))
        kept = np.argwhere(masks["layer1.0.conv1.weight"])[0]
        weights["layer1.0.conv1.weight"][tuple(kept)] = 0
        write_arrays(Path("short.safetensors"), weights, {})
        with pytest.raises(UserError, match=r"layer1\.0\.conv1\.weight keeps 13 of 144 instead of 14"):
            bring(Path("short.safetensors"), density=0.1, replica=1)


def test_with_global_pruning_the_whole_counts(own: Checkout) -> None:
    with inside(own):
        config = tiny(prune={"allocation": "global"})
        weights, masks = split_masks(read_arrays(source()))
        weights["conv1.weight"][tuple(np.argwhere(masks["conv1.weight"])[0])] = 0
        write_arrays(Path("fewer.safetensors"), weights, {})
        place = {"seed": 1, "temperature": 2, "density": 0.1, "replica": 1}
        total = sum(mask.size for mask in masks.values())
        kept = sum(int(mask.sum()) for mask in masks.values())
        with pytest.raises(UserError, match=f"all convolutions keeps {kept - 1:,} of {total:,}"):
            import_checkpoint(config, Path("fewer.safetensors"), NAME, **place)
        weights["layer1.0.conv1.weight"][tuple(np.argwhere(~masks["layer1.0.conv1.weight"])[0])] = 0.5
        write_arrays(Path("moved.safetensors"), weights, {})
        import_checkpoint(config, Path("moved.safetensors"), NAME, **place)
        with pytest.raises(UserError, match=r"conv1\.weight keeps 3 of 36"):
            bring(Path("moved.safetensors"), temperature=4, density=0.1, replica=1)


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ({"seed": 7}, "no dense seed 7; it has 1"),
        ({"temperature": 3}, "no temperature 3; it has 2, 4"),
        ({"density": 0.2}, "no density 0.2; it has 0.1, 0.5"),
        ({"density": 0.1, "replica": 9}, "no replica 9; it has 1, 2"),
        ({"replica": 1}, "give --density"),
        ({}, "not a dense checkpoint"),
    ],
)
def test_a_wrong_place_is_named(own: Checkout, place: dict, complaint: str) -> None:
    with inside(own), pytest.raises(UserError, match=complaint):
        bring(source(), **place)


def test_what_is_there_is_not_overwritten(own: Checkout) -> None:
    with inside(own):
        bring(source(), density=0.1, replica=1)
        with pytest.raises(UserError, match="exists already"):
            bring(source(replica=2), density=0.1, replica=1)


def test_a_result_written_while_waiting_is_not_overwritten(own: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes it while the import waits for the lock."""
    locked = importing.locked

    @contextlib.contextmanager
    def waiting(*job: object) -> Iterator[None]:
        with locked(*job):
            result = find_product(study_of(tiny()), 1, 2, 0.1, 1).outputs[0]
            result.parent.mkdir(parents=True, exist_ok=True)
            result.write_text("theirs")
            yield

    monkeypatch.setattr(importing, "locked", waiting)
    with inside(own):
        with pytest.raises(UserError, match=r"retrained\.json exists already"):
            bring(source(), density=0.1, replica=1)
        assert find_product(study_of(tiny()), 1, 2, 0.1, 1).outputs[0].read_text() == "theirs"


def test_other_architectures_and_infinite_values_are_refused(own: Checkout) -> None:
    with inside(own):
        weights, _ = split_masks(read_arrays(source()))
        write_arrays(Path("less.safetensors"), {k: v for k, v in weights.items() if k != "fc.bias"}, {})
        with pytest.raises(UserError, match=r"less\.safetensors is of another architecture: missing fc\.bias"):
            bring(Path("less.safetensors"), density=0.1, replica=1)
        weights["fc.bias"][0] = np.nan
        write_arrays(Path("nan.safetensors"), weights, {})
        with pytest.raises(UserError, match=r"fc\.bias holds values that are not finite"):
            bring(Path("nan.safetensors"), density=0.1, replica=1)


def test_the_classifier_may_not_be_pruned(own: Checkout) -> None:
    network = families.build("preresnet-8x0.25", classes=10, channels=1, image_size=8)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            prune.l1_unstructured(module, "weight", amount=0.9)
    with inside(own):
        torch.save(network.state_dict(), "theirs.pt")
        with pytest.raises(UserError, match=r"fc\.weight is pruned"):
            bring(Path("theirs.pt"), density=0.1)


def test_the_data_must_be_prepared(own: Checkout) -> None:
    with inside(own):
        Path("data/digits.safetensors").unlink()
        with pytest.raises(UserError, match=r"digits\.safetensors is missing.*snakemake"):
            bring(source(), density=0.1, replica=1)


def test_the_command_says_what_it_wrote(own: Checkout) -> None:
    with inside(own):
        place = ["--study", NAME, "--seed", "1", "--temperature", "2", "--density", "0.1", "--replica", "1"]
        options = ["--base", str(FILES[0]), "--configfile", str(FILES[1])]
        ended = CliRunner().invoke(main, ["import", str(source()), *place, *options])
        assert ended.exit_code == 0, ended.output
        assert "replica1/retrained.safetensors" in ended.output
