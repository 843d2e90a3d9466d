"""What a job requests: GPUs, memory and run time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import ROOT

from three_regime.config import Config, load, merge, resolve
from three_regime.planning import pricing
from three_regime.study.grid import Study, study_named
from three_regime.study.stages import STAGES
from three_regime.workflow import job_resources, running
from three_regime.workflow.job_resources import first_runtime


def config(**changes: object) -> Config:
    """The whole paper with keys replaced."""
    return resolve(merge(load([ROOT / "config.yaml"]).model_dump(mode="json"), changes))


def figure2(settings: Config) -> Study:
    return study_named(settings, "cifar10-preresnet20-epochs")


@pytest.fixture
def rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a file of rates; no others are known."""
    monkeypatch.setattr(pricing, "RATES", tmp_path)
    job_resources._rates.cache_clear()

    def write(device: str, images_per_s: float, threads: int = 1) -> None:
        names = ("train_images_per_s", "evaluate_images_per_s", "reestimate_images_per_s")
        model = {**dict.fromkeys(names, images_per_s), "parameters": 272282}
        text = json.dumps({"device": device, "threads": threads, "models": {"preresnet-20": model}})
        (tmp_path / f"{device}.json").write_text(text)
        job_resources._rates.cache_clear()

    yield write
    job_resources._rates.cache_clear()


def asked(settings: Config, stage: str, attempt: int, **wildcards: str) -> dict[str, int]:
    resources = job_resources.job_resources(settings, figure2(settings), stage)
    return {name: value(wildcards, attempt=attempt) if callable(value) else value for name, value in resources.items()}


def test_memory_and_run_time_grow_with_the_attempt(rates) -> None:
    ours = config()
    asks = [asked(ours, "lmc", attempt, temperature="epochs040") for attempt in (1, 2, 3)]
    assert asks == [{"gpu": 1, "mem_mb": 8000 * times, "runtime": 240 * times} for times in (1, 2, 3)]
    assert asked(ours, "dense", 2) == {"gpu": 1, "mem_mb": 16000, "runtime": 240}


def test_no_gpu_is_asked_for_where_none_is_used(rates) -> None:
    """On a cluster with ``device: cpu``, and on this machine without one; CPU rates then decide the run time."""
    assert {asked(config(device="cpu"), stage, 1)["gpu"] for stage in STAGES} == {0}
    absent = job_resources.job_resources(config(), figure2(config()), "retrain", without_gpu=lambda: True)
    assert absent["gpu"]({}, attempt=1) == 0
    rates("cpu", 1000, threads=2)
    ours = config(device="cpu", max_runtime=10**6)
    expected = first_runtime(figure2(ours), "lmc", 40, None, ours.threads, gpu=0)
    assert asked(ours, "lmc", 1, temperature="epochs040")["runtime"] == expected > 240


def test_a_stage_that_uses_a_gpu_asks_for_one(rates) -> None:
    """``device: cuda`` sends every job that computes to a GPU, whatever the stage's resources say."""
    name = "cifar10-preresnet20-epochs"
    without = {"resources": {"dense": {"gpu": 0}}}
    assert asked(config(studies={name: without}), "dense", 1)["gpu"] == 0
    assert asked(config(device="cuda", studies={name: without}), "dense", 1)["gpu"] == 1
    ours = config(device="cuda")
    assert asked(ours, "prune", 1)["gpu"] == 0, "it ranks weights on the CPU"
    ours = config(device="cuda", studies={name: {"prune": {"criterion": "gradient_magnitude"}}})
    assert asked(ours, "prune", 1)["gpu"] == 1


def started(local: bool = True, cores: int = 8, nodes: int | None = None, **limits: int) -> SimpleNamespace:
    """What a run's Snakemake says of itself."""
    settings = SimpleNamespace(cores=cores, nodes=nodes, resources=limits)
    return SimpleNamespace(is_main_process=True, local_exec=local, resource_settings=settings)


@pytest.mark.parametrize(
    ("visible", "device", "absent", "slots"),
    [(True, "auto", False, 1), (False, "auto", True, 4), (False, "cuda", False, 1), (True, "cpu", False, 4)],
)
def test_jobs_without_a_gpu_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch, visible: bool, device: str, absent: bool, slots: int
) -> None:
    monkeypatch.setattr(running, "_visible_gpus", lambda: visible)
    ours = config(device=device, threads=2)
    assert running.without_gpu(started(), ours) == absent
    assert not running.without_gpu(started(local=False), ours), "the nodes of a cluster may have one"
    assert running.slots(started(gpu=1), ours) == slots
    assert running.slots(started(nodes=100), ours) == 100


def test_snakemake_starts_jobs_without_a_gpu_together(tmp_path: Path) -> None:
    """Through Snakemake itself: the limit of the profile leaves one job with a GPU, and all without."""
    (tmp_path / "Snakefile").write_text(
        "from types import SimpleNamespace\n"
        "from three_regime.workflow import running\n"
        "running._visible_gpus = lambda: config['visible'] == 'yes'\n"
        "own = SimpleNamespace(device='auto')\n"
        "rule all:\n    input: ['1', '2', '3']\n"
        "rule job:\n    output: '{n}'\n"
        "    resources: gpu=lambda wildcards, attempt: 0 if running.without_gpu(workflow, own) else 1\n"
        "    shell: 'touch {output}'\n"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "3", "--resources", "gpu=1", "--config"]
    for visible, at_once in (("yes", 1), ("no", 3)):
        ended = subprocess.run([*command, f"visible={visible}", "-F"], cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert f"Execute {at_once} jobs" in ended.stderr


def test_no_job_asks_for_more_than_the_longest_time(rates) -> None:
    assert [asked(config(), "retrain", attempt, temperature="epochs040")["runtime"] for attempt in (1, 2, 3)] == [
        1440,
        2880,
        2880,
    ]
    assert asked(config(max_runtime=60), "retrain", 1, temperature="epochs040")["runtime"] == 60


def test_measured_rates_decide_the_run_time_of_a_pack(rates) -> None:
    """27 retrainings of 160 epochs of 50,000 images, each epoch evaluated on 10,000, both splits at the end."""
    rates("cuda", 100_000)
    images = 27 * (160 * 60_000 + 60_000)
    minutes = job_resources.MARGIN * (images / 100_000 + pricing.OTHER_START_S) / 60
    runtime = asked(config(), "retrain", 1, temperature="epochs040")["runtime"]
    assert minutes <= runtime < minutes + job_resources.STEP_MIN
    assert runtime % job_resources.STEP_MIN == 0
    rates("cuda", 50_000)
    assert asked(config(), "retrain", 1, temperature="epochs040")["runtime"] == pytest.approx(2 * runtime, abs=10)


def test_a_smaller_pack_asks_for_less(rates) -> None:
    rates("cuda", 100_000)
    name = "cifar10-preresnet20-epochs"
    cell = config(studies={name: {"pack": ["replica"]}})
    whole, part = (
        asked(ours, "retrain", 1, **wildcards)["runtime"]
        for ours, wildcards in (
            (config(), {"temperature": "epochs040"}),
            (cell, {"temperature": "epochs040", "density": "density005"}),
        )
    )
    assert part < whole / 5


def test_rates_of_another_kind_of_device_say_nothing(rates) -> None:
    rates("cpu", 1e9)
    assert asked(config(), "retrain", 1, temperature="epochs040")["runtime"] == 1440


def test_rates_of_images_say_nothing_of_translation(rates) -> None:
    rates("cpu", 1e9)
    ours = load([ROOT / "config.yaml", ROOT / "config/tiny-translation.yaml"])
    study = study_named(ours, "tiny-translation")
    assert first_runtime(study, "lmc", study.temperatures[0], None, 1) == study.config.resources.lmc.runtime


def test_cpu_rates_count_without_a_gpu_and_by_threads(rates) -> None:
    rates("cpu", 1000, threads=2)
    name = "cifar10-preresnet20-epochs"
    ours = config(studies={name: {"resources": {"lmc": {"gpu": 0}}}}, max_runtime=10**6)
    two, one = (first_runtime(figure2(ours), "lmc", 40, None, threads) for threads in (2, 1))
    assert two > 240
    assert one == pytest.approx(2 * two, rel=0.01)
