"""Jobs: fingerprints decide which results are computed and which are kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_study import ALL, ROOT, TOTALS, command, config, digests, files, products, run, run_to, study_of

from three_regime.config import Config
from three_regime.jobs.run import Outcome
from three_regime.study import stages
from three_regime.study.fingerprints import input_digest
from three_regime.study.stages import STAGES
from three_regime.system.files import read_arrays, read_json, read_metadata
from three_regime.system.sparse_encoding import MASK_PREFIX


def outcomes(settings: Config) -> dict[str, Outcome]:
    return {stage: run(settings, stage) for stage in ALL}


def kept(**computed: int) -> dict[str, Outcome]:
    return {stage: Outcome(computed.get(stage, 0), TOTALS[stage] - computed.get(stage, 0)) for stage in ALL}


def snapshot(paths: list[Path]) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


# -- nothing to do


def test_nothing_stale_imports_no_torch_and_says_so(study_folder):
    code = (
        "import sys\nfrom pathlib import Path\nfrom three_regime.config import load\n"
        "from three_regime.jobs.run import Outcome, run_job\n"
        "from three_regime.logs import reporting\n"
        f"with reporting():\n    config = load([Path({str(study_folder / 'config.yaml')!r})])\n"
        f"    for stage in {ALL}:\n        run_job(config, 'tiny', stage, 1, 2)\n"
        "assert 'torch' not in sys.modules\n"
    )
    command(study_folder, "dense")  # writes config.yaml
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    for stage, count in (("dense", 1), ("prune", 2), ("retrain", 4), ("lmc", 2), ("cka", 2)):
        assert f"{stage} tiny seed1 epochs002: 0 computed, {count} kept" in process.stderr


def test_nothing_stale_touches_nothing(study_folder):
    settings = config(study_folder)
    before = snapshot(files(settings))
    assert outcomes(settings) == kept()
    assert snapshot(files(settings)) == before


def test_pruning_imports_no_torch(tmp_path, finished_study):
    shutil.copytree(finished_study, tmp_path, dirs_exist_ok=True)
    settings = config(tmp_path)
    for path in files(settings, "prune"):
        path.unlink()
    code = (
        "import sys\nfrom pathlib import Path\nfrom three_regime.config import load\n"
        "from three_regime.jobs.run import Outcome, run_job\n"
        f"config = load([Path({str(tmp_path / 'config.yaml')!r})])\n"
        "assert run_job(config, 'tiny', 'prune', 1, 2) == Outcome(2, 0)\nassert 'torch' not in sys.modules\n"
    )
    command(tmp_path, "prune")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# -- a part is missing


@pytest.mark.parametrize("name", ["retrained.safetensors", "retrained.json"])
def test_a_deleted_file_comes_back_and_its_mates_are_kept(study_folder, name):
    settings = config(study_folder)
    lost = products(settings, "retrain")[2].outputs[0].with_name(name)
    before = read_arrays(lost) if lost.suffix == ".safetensors" else read_json(lost)
    mates = snapshot([path for path in files(settings, "retrain") if path.parent != lost.parent])
    lost.unlink()
    assert run(settings, "retrain") == Outcome(1, 7)
    if lost.suffix == ".safetensors":
        after = read_arrays(lost)
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[key], after[key]) for key in before)
    else:
        assert {**read_json(lost), "provenance": None} == {**before, "provenance": None}
    assert snapshot(list(mates)) == mates
    downstream = {stage: run(settings, stage) for stage in ("lmc", "cka")}
    assert downstream == {"lmc": Outcome(0, 4), "cka": Outcome(0, 4)}


def test_an_early_checkpoint_comes_back_from_a_new_run(study_folder):
    """The saved state is from the end of the run, so epoch 1 is retrained and equals the first result."""
    settings = config(study_folder)
    before = digests(settings, "dense")
    (study_of(settings).at(1, 1) / "dense.safetensors").unlink()
    assert outcomes(settings) == kept(dense=1)
    assert digests(settings, "dense") == before


def test_a_file_in_the_place_of_a_result_is_replaced(study_folder):
    settings = config(study_folder)
    lmc = files(settings, "lmc")[0]
    lmc.write_text('{"lmc": 0}')
    assert run(settings, "lmc") == Outcome(1, 3)
    assert len(read_json(lmc)["t"]) == 3


def test_kept_results_become_younger_than_their_inputs(study_folder):
    """Otherwise Snakemake would always plan the job: copied results have arbitrary times."""
    settings = config(study_folder)
    product = products(settings, "retrain")[0]
    for path in product.outputs:
        os.utime(path, (1, 1))
    content = [path.read_bytes() for path in product.outputs]
    assert run(settings, "retrain") == Outcome(0, 8)
    newest = max(path.stat().st_mtime for path in product.inputs.values())
    assert min(path.stat().st_mtime for path in product.outputs) >= newest
    assert [path.read_bytes() for path in product.outputs] == content


# -- a larger grid, other settings, another version


def test_a_new_density_computes_only_what_is_new(study_folder):
    settings = config(study_folder, densities=[0.1, 0.3, 0.5])
    assert outcomes(settings) == {
        "dense": Outcome(0, 2), "prune": Outcome(2, 4), "retrain": Outcome(4, 8), "lmc": Outcome(2, 4),
        "cka": Outcome(2, 4),
    }  # fmt: skip


def test_a_new_replica_computes_only_what_is_new(study_folder):
    settings = config(study_folder, replicas=[3, 1, 2])
    assert outcomes(settings) == {
        "dense": Outcome(0, 2), "prune": Outcome(0, 4), "retrain": Outcome(4, 8), "lmc": Outcome(8, 4),
        "cka": Outcome(8, 4),
    }  # fmt: skip


def test_a_new_temperature_continues_the_dense_run(study_folder, caplog):
    """Three epochs instead of two: the saved state of the finished run is continued, not repeated."""
    settings = config(study_folder, temperatures=[1, 2, 3], dense={"epochs": 3})
    before = digests(config(study_folder), "dense")
    with caplog.at_level("INFO"):
        assert run(settings, "dense") == Outcome(1, 2)
    assert "continues after epoch 2" in caplog.text
    assert before.items() < digests(settings, "dense").items()
    assert run(settings, "prune") == Outcome(2, 4)


def test_a_larger_grid_gives_the_same_numbers_as_at_once(study_folder, tmp_path_factory):
    grid: dict[str, Any] = {"temperatures": [1, 2, 3], "densities": [0.1, 0.3], "dense": {"epochs": 3}}
    grown, fresh = config(study_folder, **grid), config(tmp_path_factory.mktemp("fresh"), **grid)
    run_to(grown, "retrain")
    assert run_to(fresh, "retrain").kept == 0
    assert digests(grown, "retrain") == digests(fresh, "retrain")


@pytest.mark.parametrize(
    ("changes", "computed"),
    [
        ({"retrain": {"learning_rate": 0.05}}, {"retrain": 8, "lmc": 4, "cka": 4}),
        ({"retrain": {"momentum": 0.5}}, {"retrain": 8, "lmc": 4, "cka": 4}),
        ({"measure": {"last_epochs": 1}}, {"retrain": 8}),  # same weights: what follows is kept
        ({"measure": {"points": 4}}, {"lmc": 4}),
        ({"measure": {"train_images": 64}}, {"lmc": 4}),
        ({"measure": {"cka_images": 32}}, {"cka": 4}),
        ({"prune": {"allocation": "global"}}, {"prune": 4, "retrain": 8, "lmc": 4, "cka": 4}),
        ({"dense": {"weight_decay": 0.01}}, TOTALS),
    ],
)
def test_a_changed_setting_recomputes_what_depends_on_it(study_folder, changes, computed):
    settings = config(study_folder, **changes)
    assert outcomes(settings) == kept(**computed)
    assert outcomes(settings) == kept()


@pytest.mark.parametrize(
    "changes",
    [
        {"top": {"threads": 2}},
        {"top": {"state_every_s": 7}},
        {"pack": ["replica"]},
        {"resources": {"retrain": {"gpu": 0}}},
        {"dense": {"evaluate_every": 2}},
        {"retrain": {"betas": [0.5, 0.5]}},  # Adam's, and this is SGD
        {"densities": [0.5, 0.1], "temperatures": [2, 1], "replicas": [2, 1]},
    ],
)
def test_settings_that_change_no_number_recompute_nothing(study_folder, changes):
    assert outcomes(config(study_folder, **changes)) == kept()


def test_results_may_be_moved(study_folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    shutil.copytree(study_folder, moved)
    assert outcomes(config(moved)) == kept()


@pytest.mark.parametrize("stage", ALL)
def test_a_raised_version_recomputes_its_stage(study_folder, monkeypatch, stage):
    monkeypatch.setitem(stages.STAGES, stage, replace(STAGES[stage], version=99))
    assert outcomes(config(study_folder)) == kept(**{stage: TOTALS[stage]})  # equal tensors: what follows is kept


def test_going_back_to_the_old_setting_recomputes(study_folder):
    before = digests(config(study_folder), "retrain")
    other = config(study_folder, retrain={"learning_rate": 0.05})
    assert run(other, "retrain") == Outcome(8, 0)
    assert digests(other, "retrain") != before
    assert run(config(study_folder), "retrain") == Outcome(8, 0)
    assert digests(config(study_folder), "retrain") == before


@pytest.mark.parametrize(
    ("knob", "values"),
    [
        ("batch_size", [32, 64]),
        ("sam_rho", [0, 0.1]),
        ("learning_rate", [1]),
    ],
)
def test_the_other_knobs_train_one_network_a_temperature(tmp_path, knob, values):
    settings = config(tmp_path, knob=knob, temperatures=values, replicas=[1], densities=[0.5])
    assert run_to(settings, "retrain") == Outcome(len(values), 0)
    found = list(digests(settings, "dense").values())
    assert len(set(found)) == len(values)
    assert run(settings, "dense") == Outcome(0, len(values))


def test_one_replica_has_no_pairs(tmp_path, caplog):
    settings = config(tmp_path, replicas=[1], densities=[0.5], temperatures=[2])
    assert [run_to(settings, stage) for stage in ("retrain", "lmc", "cka")] == [
        Outcome(1, 0), Outcome(0, 0), Outcome(0, 0),
    ]  # fmt: skip
    with caplog.at_level("INFO"):
        run(settings, "lmc")
        run(settings, "measures")
    said = "tiny seed1 epochs002: nothing to do: "
    assert f"lmc {said}it compares pairs of replicas, and replicas: [1] has none" in caplog.text
    assert f"measures {said}measure.also names no additional measure" in caplog.text


# -- what a result says of itself


def test_every_result_carries_its_provenance(finished_study):
    settings = config(finished_study)
    for stage in ALL:
        for product in products(settings, stage):
            record = read_json(product.outputs[0])["provenance"]
            assert record["fingerprint"] == product.fingerprint
            assert record["recipe"] == product.recipe
            assert record["inputs"] == {role: input_digest(path) for role, path in product.inputs.items()}
            assert (record["device"], record["threads"], record["origin"]) == ("cpu", 1, "computed")
            assert {"python", "torch", "numpy"} <= record["versions"].keys()
            assert record["wall_s"] >= 0 and record["finished"] and record["commit"]
            for path in product.outputs[1:]:
                assert read_metadata(path)["fingerprint"] == product.fingerprint


def test_retrained_networks_keep_their_masks(finished_study):
    for product in products(config(finished_study), "retrain"):
        pruned, retrained = read_arrays(product.inputs["pruned"]), read_arrays(product.outputs[-1])
        masks = [name for name in pruned if name.startswith(MASK_PREFIX)]
        assert masks
        for name in masks:
            np.testing.assert_array_equal(pruned[name], retrained[name])
            assert (retrained[name.removeprefix(MASK_PREFIX)][pruned[name] == 0] == 0).all()


def test_the_test_error_is_the_mean_over_the_last_epochs(finished_study):
    for product in products(config(finished_study), "retrain"):
        result = read_json(product.outputs[0])
        errors = [row["test_error"] for row in result["history"]]
        assert result["test_error"] == pytest.approx(np.mean(errors[-2:]), abs=1e-15)
        assert result["test"]["error"] == errors[-1]


def test_no_training_state_is_left_but_the_dense_run(finished_study):
    left = [path.name for path in (finished_study / "results" / ".state").rglob("*") if path.is_file()]
    assert {name for name in left if not name.endswith(".lock")} == {"dense.state.safetensors"}


def test_after_a_clock_jump_times_are_in_order_again(study_folder):
    """Inputs with times in the future would make Snakemake always plan the job."""
    settings = config(study_folder)
    product = products(settings, "retrain")[0]
    future = time.time() + 1e8
    for path in (product.inputs["pruned"], product.outputs[1]):
        os.utime(path, (future, future))
    assert run(settings, "retrain") == Outcome(0, 8)
    newest = max(path.stat().st_mtime_ns for path in product.inputs.values())
    assert newest <= min(path.stat().st_mtime_ns for path in product.outputs) <= time.time_ns()
