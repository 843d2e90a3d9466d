"""`run-stage`: the stages of a study without Snakemake."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import NAME, ROOT, TRAINING, command, config, digests, finish, mapping, run_to, start, study_of

from three_regime.config import resolve
from three_regime.errors import UserError
from three_regime.jobs import job
from three_regime.jobs import run as job_run
from three_regime.jobs.without_snakemake import run_stage
from three_regime.study.grid import Study
from three_regime.study.outputs import CELL_TABLES, REGIME_TABLES, RUN_FIGURES
from three_regime.study.verdicts import unfit

HEAVY = ("dense", "prune", "retrain", "lmc", "cka")


def write(folder: Path, *, top: dict[str, Any] | None = None, **changes: Any) -> list[Path]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(mapping(folder, top=top, **changes)))
    return [path]


def weights(folder: Path) -> set[str]:
    return {str(path.relative_to(folder / "results" / NAME)) for path in folder.glob("results/tiny/**/*.safetensors")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Run all stages in order."""
    folder = tmp_path_factory.mktemp("finished")
    for stage in ("prepare", *HEAVY):
        run_stage(stage, write(folder))
    return folder


def test_equals_the_jobs_of_the_workflow(finished, tmp_path):
    settings = config(tmp_path)
    run_to(settings, "cka")
    assert digests(settings, "retrain") == digests(config(finished), "retrain")


def test_tables_and_figures_of_what_is_there(finished, monkeypatch):
    monkeypatch.setattr(Study, "figures", ("phase_diagram", *RUN_FIGURES))
    run_stage("tables", write(finished))
    names = {path.stem for path in (finished / "results" / NAME).glob("*.csv")}
    assert {*CELL_TABLES, *REGIME_TABLES} <= names
    drawn = {path.name for path in (finished / "results" / NAME / "figures").iterdir()}
    assert {"phase_diagram.pdf", "phase_diagram.png", "phase_diagram.csv"} <= drawn


def test_a_second_run_keeps_everything(finished, caplog):
    with caplog.at_level("INFO"):
        for stage in HEAVY:
            run_stage(stage, write(finished))
    assert " 0 computed" in caplog.text
    assert not any(" computed" in line and " 0 computed" not in line for line in caplog.messages)


@pytest.mark.parametrize("keep", ["endpoints", "none"])
def test_what_a_finished_study_does_not_keep_is_not_made_again(finished, tmp_path, caplog, keep):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    files = write(tmp_path, keep=keep)
    run_stage("discard", files)
    left = weights(tmp_path)
    with caplog.at_level("INFO"):
        for stage in HEAVY:
            run_stage(stage, files)
    assert weights(tmp_path) == left
    assert not any(" computed" in line and " 0 computed" not in line for line in caplog.messages)
    assert f"up to date (keep: {keep})" in caplog.text


def test_seeds_and_temperatures_may_be_chosen(tmp_path):
    files = write(tmp_path, dense_seeds=[1, 2])
    run_stage("prepare", files)
    run_stage("dense", files, seeds=[2], temperatures=[1])
    assert weights(tmp_path) == {"seed2/epochs001/dense.safetensors"}
    run_stage("dense", files, NAME, seeds=[2])
    run_stage("prune", files, seeds=[2], temperatures=[2.0])
    assert weights(tmp_path) == {
        "seed2/epochs001/dense.safetensors",
        "seed2/epochs002/dense.safetensors",
        "seed2/epochs002/density010/pruned.safetensors",
        "seed2/epochs002/density050/pruned.safetensors",
    }


def test_chosen_one_by_one_the_checkpoints_are_the_same(finished, tmp_path):
    """The second early stop continues the state of the first."""
    files = write(tmp_path)
    run_stage("prepare", files)
    for temperature in (1, 2):
        run_stage("dense", files, temperatures=[temperature])
    assert digests(config(tmp_path), "dense") == digests(config(finished), "dense")


def test_files_are_laid_over_each_other(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("studies: {tiny: {temperatures: [1]}}")
    files = write(tmp_path)
    run_stage("prepare", files)
    run_stage("dense", [*files, overlay])
    assert weights(tmp_path) == {"seed1/epochs001/dense.safetensors"}


@pytest.mark.parametrize(
    ("stage", "arguments", "said"),
    [
        ("dense", {"name": "tinny"}, "no study 'tinny'; .*tiny"),
        ("dense", {"seeds": [7]}, "tiny has no dense seed 7; it has 1"),
        ("dense", {"temperatures": [3]}, "tiny has no temperature 3; it has 1, 2"),
        ("dens", {}, "unknown stage 'dens'; allowed: prepare, dense"),
    ],
)
def test_what_the_study_does_not_have_is_refused(tmp_path, stage, arguments, said):
    with pytest.raises(UserError, match=said):
        run_stage(stage, write(tmp_path), **arguments)


@pytest.mark.parametrize("names", [["tiny", "other"], []])
def test_of_several_studies_one_must_be_chosen(tmp_path, names):
    files = write(tmp_path, top={"run": names, "studies": {"other": mapping(tmp_path)["studies"][NAME]}})
    with pytest.raises(UserError, match=r"choose one with --study: (tiny, other|other, tiny)"):
        run_stage("prepare", files)
    run_stage("prepare", files, "other")


@pytest.mark.parametrize(
    ("stage", "before"),
    [("dense", "prepare"), ("prune", "dense"), ("retrain", "prune"), ("lmc", "retrain"), ("cka", "retrain")],
)
def test_a_missing_input_names_the_stage_that_makes_it(finished, tmp_path, stage, before):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    if before == "prepare":
        (tmp_path / "data" / "digits.safetensors").unlink()
        next((tmp_path / "results" / NAME).rglob("dense.safetensors")).unlink()  # of a finished study none are needed
    else:
        folder = study_of(config(tmp_path)).folder
        name = {"prune": "pruned", "retrain": "retrained"}.get(before, before)
        sorted(folder.rglob(f"{name}.safetensors"))[-1].unlink()
    with pytest.raises(UserError, match=f"is missing: run stage {before} of tiny first"):
        run_stage(stage, write(tmp_path))


def test_tables_and_figures_of_a_part(tmp_path):
    """Cells of networks not yet retrained are empty."""
    run_to(config(tmp_path), "dense")
    run_stage("tables", write(tmp_path))
    assert (tmp_path / "results" / NAME / "figures" / "lmc_lines.png").exists()
    assert len((tmp_path / "results" / NAME / "cells.csv").read_text().splitlines()) == 1 + 4


def test_tables_of_nothing_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no results yet: run stage dense of tiny first"):
        run_stage("tables", write(tmp_path))


NEW_RATE = {"retrain": {**TRAINING, "learning_rate": 0.05}}


def test_tables_of_results_of_other_settings_are_refused(finished, tmp_path):
    """The message has their number, the setting and the command that fixes it; nothing is written."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")}
    files = write(tmp_path, **NEW_RATE)
    with pytest.raises(UserError) as refused:
        run_stage("tables", files)
    said = str(refused.value)
    assert said.startswith("16 results of tiny (8 retrain, 4 lmc, 4 cka) do not match its settings, the first ")
    assert "retrained.json: stale, training.learning_rate from 0.1 to 0.05; run" in said
    assert "run-stage retrain --study tiny` with the same --configfile, then lmc, cka" in said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")} == before
    for stage in ("retrain", "lmc", "cka"):
        run_stage(stage, files)
    assert unfit(study_of(resolve(mapping(tmp_path, **NEW_RATE)))) == []


def test_what_was_half_computed_again_is_refused_too(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    files = write(tmp_path, **NEW_RATE)
    run_stage("retrain", files, temperatures=[1])
    with pytest.raises(UserError, match=r"12 results of tiny \(4 retrain, 4 lmc, 4 cka\) "):
        run_stage("tables", files)


def remove_weights(folder):
    for path in folder.rglob("*.safetensors"):
        path.unlink()


def remove_dense(folder):
    for path in (folder / "results" / NAME).rglob("dense.*"):
        path.unlink() if path.is_file() and path.suffix == ".safetensors" else None


def remove_a_cell(folder):
    shutil.rmtree(folder / "results" / NAME / "seed1" / "epochs001" / "density010")


@pytest.mark.parametrize("remove", [remove_weights, remove_dense, remove_a_cell])
def test_missing_is_not_stale(finished, tmp_path, remove):
    """Results without weights, as on a laptop; without their inputs; and an unfinished study."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    remove(tmp_path)
    assert unfit(study_of(resolve(mapping(tmp_path)))) == []
    stale = unfit(study_of(resolve(mapping(tmp_path, **NEW_RATE))))
    assert {finding.product.stage for finding in stale} == {"retrain", "lmc", "cka"}


def test_one_replica_is_no_error(tmp_path):
    files = write(tmp_path, replicas=[1], temperatures=[1], densities=[0.5])
    for stage in ("prepare", *HEAVY):
        run_stage(stage, files)
    assert not list(tmp_path.rglob("lmc.json"))


def test_preparing_needs_the_raw_files(tmp_path):
    """If CIFAR-10 is in no folder and cannot be downloaded, every location tried is named."""
    raw = {"train_images": None, "test_images": None, "name": "cifar10"}
    mirrors = {"cifar10": ["http://127.0.0.1:9/cifar-10-python.tar.gz"]}
    top = {"data": {"folder": str(tmp_path / "data"), "offline": [str(tmp_path / "offline")], "mirrors": mirrors}}
    from three_regime.preparation import download

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_from_network", lambda *_: False)
        with pytest.raises(UserError, match="cifar-10-python"):
            run_stage("prepare", write(tmp_path, top=top, dataset=raw, model="preresnet-8x0.25"))
    assert not (tmp_path / "data" / "cifar10.safetensors").exists()


@pytest.mark.parametrize("name", ["three_regime.jobs.without_snakemake", "three_regime.cli"])
def test_importing_it_imports_no_torch(name):
    code = f"import sys, {name}; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_command_line(finished, tmp_path):
    """Exit code 0 and a count; exit code 2 and one sentence without a traceback."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    log = finish(command(tmp_path, "retrain", "--seed", "1", "--temperature", "2", "--study", NAME))
    assert "retrain tiny seed1 epochs002: 0 computed, 4 kept" in log
    assert "epochs001" not in log
    process = start(command(tmp_path, "retrain", "--seed", "9"))
    log = process.communicate()[1]
    assert process.returncode == 2
    assert log.strip().endswith("ERROR tiny has no dense seed 9; it has 1") and "Traceback" not in log


def test_it_takes_the_locks_of_the_workflows_jobs(finished, monkeypatch):
    taken = []

    def locked(study, stage, seed, temperature, density):
        taken.append((stage, temperature, density))
        return job.locked(study, stage, seed, temperature, density)

    monkeypatch.setattr(job_run, "locked", locked)
    run_stage("dense", write(finished))
    run_stage("retrain", write(finished), temperatures=[1])
    run_stage("retrain", write(finished, pack=["replica"]), temperatures=[1])
    assert taken == [("dense", None, None), ("retrain", 1, None), ("retrain", 1, 0.1), ("retrain", 1, 0.5)]
