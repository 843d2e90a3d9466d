"""Benchmarks run, write complete results, and do the same arithmetic on both sides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from checkout import ROOT

from benchmarks import conventional, fidelity, pipeline
from benchmarks.setting import BATCH, Setting, outputs, random_images
from benchmarks.suite import rates_file
from benchmarks.timing import compare
from three_regime.datasets.registry import DATASETS
from three_regime.landscape.linear_cka import linear_cka
from three_regime.planning.pricing import Rates
from three_regime.system.files import write_arrays, write_json

IMAGES = (pipeline.WARM_UP + 3) * BATCH


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    path = tmp_path / "images.safetensors"
    write_arrays(path, random_images(DATASETS["cifar10"], IMAGES, 64), {})
    return Setting(path, "cifar10", "preresnet-8x0.25", "cpu", torch.get_num_threads(), IMAGES, 64)


@pytest.mark.slow
def test_a_quick_run_writes_rates_that_the_plan_reads(tmp_path: Path) -> None:
    out = tmp_path / "quick.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--threads", "1", "--device", "cpu", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    expected = {"command", "date", "quick", "machine", "device", "threads", "data", "versions", "commit", "items"}
    assert set(result) == expected
    assert {"name", "cpu", "cores", "memory_gb", "system"} <= set(result["machine"])
    items = result["items"]
    assert list(items) == ["training", "demo-training", "lmc", "cka", "planning", "planning-paper", "packs", "sparse",
                           "rates", "fairseq"]  # fmt: skip
    for name in ("training", "demo-training", "lmc", "cka"):
        found = items[name]
        (pair,) = found["pairs"]
        assert found["ours"] == pair["ours"] > 0
        assert found["usual"] == pair["usual"] > 0
        assert found["ratio"] == pytest.approx(pair["usual"] / pair["ours"])
    assert items["planning"]["jobs"] > 10
    errors = items["lmc"]["train_errors_of_3_points"]
    assert errors["ours"] == pytest.approx(errors["usual"], abs=2 / 128)
    (pack,) = items["packs"]["packs"]
    assert (pack["model"], pack["members"]) == ("preresnet-8x0.25", 1) and pack["peak_mb"] > 0 < pack["ratio"]
    (row,) = items["sparse"]["densities"]
    assert row["density"] == 0.05
    assert row["against_present"] == pytest.approx(row["present"] / row["sparse"])
    assert items["sparse"]["work"]["gflop_at_0.05"] > 0 < items["sparse"]["lmc"]["against_present"]
    rates = Rates.model_validate(rates_file(result))
    measured = rates.models["preresnet-8x0.25"]
    assert measured.train_images_per_s > 0 < min(measured.relative_times[0.05])
    assert "training step" in done.stdout
    against = items["fairseq"]
    assert against["binaries_equal"] and against["update_difference"] < 1e-5
    assert all(against[name]["ours_per_s"] > 0 < against[name]["usual_per_s"] for name in ("training", "decoding"))
    assert "hypotheses equal: " in done.stdout


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['--help']; import runpy; runpy.run_module('benchmarks', run_name='__main__')"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


def test_both_sides_prepare_the_same_pixels(setting: Setting) -> None:
    task = pipeline.task_of(setting)
    theirs = torch.stack([image for image, _ in conventional.pictures(setting, "train", augmented=False)])
    torch.testing.assert_close(task.augmenter.normalise(task.images["train"]).contiguous(), theirs, rtol=0, atol=1e-6)


def test_both_sides_compute_the_same_loss_and_gradient(setting: Setting) -> None:
    task = pipeline.task_of(setting)
    images, labels = task.augmenter.normalise(task.images["train"][:BATCH]).double(), task.labels["train"][:BATCH]
    weights = {name: value.double() for name, value in pipeline.weights_of(setting, 1).items()}
    parameters = {name: weights[name].requires_grad_() for name in task.parameters}
    loss, _, _ = task.loss(parameters, {name: weights[name] for name in task.buffers}, (images, labels))
    ours = torch.autograd.grad(loss, list(parameters.values()))
    module = conventional.network(setting, 1).double().train()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    sgd = conventional.optimiser(module)
    assert conventional.step(module, sgd, images.contiguous(), labels) == pytest.approx(loss.item(), abs=1e-9)
    for (name, value), gradient in zip(module.named_parameters(), ours, strict=True):
        torch.testing.assert_close(value.grad, gradient, rtol=0, atol=1e-9)
        moved = before[name] - 0.1 * (gradient + 1e-4 * before[name])
        torch.testing.assert_close(value.detach(), moved, rtol=0, atol=1e-9)


def test_both_ways_of_cka_agree() -> None:
    pair = outputs(300, 10)
    assert conventional.gram_cka(*pair) == pytest.approx(linear_cka(*pair), abs=1e-12)


def test_the_clock_measures_whole_steps_and_ends_the_trainer(setting: Setting) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        pipeline.training_step_s(setting, 10)
    assert 0 < pipeline.training_step_s(setting, 1) < 60
    assert 0 < pipeline.pack_step_s(setting, 1, 3) < 60


def test_the_ratio_is_the_median_over_pairs() -> None:
    ours, usual = iter([1.0, 1.0, 2.0]), iter([2.0, 3.0, 8.0])
    found = compare(lambda: next(ours), lambda: next(usual), pairs=3, patience_s=0)
    assert (found["ratio"], found["ratios"]) == (3.0, [2.0, 4.0])
    assert np.median([pair["ratio"] for pair in found["pairs"]]) == found["ratio"]


def test_fidelity_reads_each_measure_once_a_seed(tmp_path: Path) -> None:
    """A mean over the replicas or pairs of a seed, whatever the number of files."""
    for seed in (1, 2):
        cell = tmp_path / f"seed{seed}" / "epochs006"
        write_json(cell / "dense.json", {"test": {"error": 0.1 * seed}})
        for replica in (1, 2):
            write_json(cell / "density010" / f"replica{replica}" / "retrained.json", {"test_error": seed + replica})
        write_json(cell / "density010" / "pair1-2" / "lmc.json", {"lmc": -0.01 * seed})
        write_json(cell / "density010" / "pair1-2" / "cka.json", {"softmax": 0.9})
    values = fidelity.measured(tmp_path).set_index(["measure", "seed"]).value
    assert len(values) == 8
    assert values["dense test error", "seed2"] == pytest.approx(0.2)
    assert values["test error, retrained", "seed1"] == pytest.approx(2.5)
    assert values["LMC", "seed2"] == pytest.approx(-0.02)


def test_fidelity_pairs_the_seeds() -> None:
    values = pd.DataFrame(
        {
            "measure": "LMC",
            "seed": ["seed1", "seed2", "seed3"] * 2,
            "way": ["kernels"] * 3 + ["torch"] * 3,
            "value": [0.1, 0.5, 0.9, 0.0, 0.5, 1.0],
        }
    )
    (row,) = fidelity.compare(values).to_dict("records")
    assert row["difference"] == pytest.approx(0.0)
    assert row["standard_error"] == pytest.approx(0.1 / 3**0.5)
    assert row["torch_between_seeds"] == pytest.approx(0.5)
