"""Plan: counts by fingerprint, work by formula, hours by measured rates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from checkout import ROOT, Checkout, copy_to
from click.testing import CliRunner
from finished import NAME, copied, inside, tiny
from processor_time import limited_to

from three_regime.cli import main
from three_regime.config import Config, load, resolve
from three_regime.errors import UserError
from three_regime.exchange.importing import import_checkpoint
from three_regime.planning import plan
from three_regime.planning.plan import Plan, Row, wanted
from three_regime.planning.plan_table import render, wall_s, worked
from three_regime.planning.pricing import JOB_START_S, OTHER_START_S, Rates, read_rates
from three_regime.study.grid import study_named
from three_regime.study.products import pack
from three_regime.study.stages import STAGES
from three_regime.tasks.images.pricing import ImagePricer, image_speed

TRAIN, TEST, MEASURED, CKA = 512, 200, 256, 256


def rates(device: str = "cpu", model: str = "preresnet-8x0.25", side: int = 8, train: float = 100) -> Rates:
    measured = {"train_images_per_s": train, "evaluate_images_per_s": 400, "reestimate_images_per_s": 200}
    return Rates.model_validate(
        {"device": device, "models": {model: {**measured, "parameters": 1, "image_size": side}}}
    )  # fmt: skip


def rows(found: Plan) -> dict[str, Row]:
    return {row.stage: row for row in found.rows}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The tiny configuration without results."""
    monkeypatch.chdir(ROOT)
    return tiny().model_copy(update={"results": str(tmp_path / "results")})


def test_everything_is_missing_at_first(empty: Config) -> None:
    found = rows(plan.make(empty, (), rates()))
    assert {stage: (row.jobs, row.jobs_to_run, row.missing) for stage, row in found.items() if stage != "data"} == {
        "dense": (1, 1, 2), "prune": (2, 2, 4), "retrain": (2, 2, 8), "lmc": (2, 2, 4), "cka": (2, 2, 4),
        "tables, figures": (0, 0, 0), "tables, figures, report": (0, 0, 0),
    }  # fmt: skip
    assert all(row.done == row.stale == 0 for stage, row in found.items() if stage != "data")


def test_the_wall_time_is_the_chain_or_the_work_shared(empty: Config) -> None:
    found = plan.make(empty, (), rates())
    _, work = worked(found)
    assert wall_s(found, 1) == max(work, found.longest_chain_s) > wall_s(found, 1000) == found.longest_chain_s
    cores = len(os.sched_getaffinity(0))
    assert f"On this machine ({cores} cores): about " in render(found)
    assert wall_s(plan.make(empty, (), rates("NVIDIA H100")), 2) is None, "rates of another machine"
    assert "On this machine" not in render(plan.make(empty, (), None))


def test_pruned_networks_are_priced_by_density(empty: Config) -> None:
    """Linear interpolation between measured densities; dense training and lock-step packs are unaffected."""
    study = study_named(empty, "tiny")
    usual, pricer = image_speed(rates(), study), ImagePricer(study)
    faster = replace(usual, relative_times={0.1: (0.25, 0.5), 0.2: (0.45, 0.6)})
    assert faster.at(0.15).train == pytest.approx(usual.train / 0.35)
    assert faster.at(0.05).evaluate == pytest.approx(usual.evaluate / 0.5)
    assert faster.at(0.6).reestimate == pytest.approx(usual.reestimate / 0.8)
    assert faster.at(1.0) == faster.at(None) == faster
    for stage in ("retrain", "lmc", "cka"):
        products = pack(study, stage, 1, study.temperatures[0])
        assert pricer.seconds(products, faster) < pricer.seconds(products, usual)
        assert pricer.seconds(products, replace(faster, together=1.0)) == pricer.seconds(
            products, replace(usual, together=1.0)
        )  # fmt: skip
    dense = pack(study, "dense", 1)
    assert pricer.seconds(dense, faster) == pricer.seconds(dense, usual)


def test_work_is_counted_in_images(empty: Config) -> None:
    found = rows(plan.make(empty, (), rates()))
    both = TRAIN + TEST
    dense = 4 * TRAIN / 100 + (4 * TEST + 2 * both) / 400
    replica = 3 * TRAIN / 100 + (3 * TEST + both) / 400
    point = MEASURED / 200 + (MEASURED + TEST) / 400
    assert found["dense"].seconds == pytest.approx(dense + OTHER_START_S)
    assert found["retrain"].seconds == pytest.approx(8 * replica + 2 * OTHER_START_S)
    # Four cells with two replicas: the ends once a replica, nine inner points a pair.
    assert found["lmc"].seconds == pytest.approx(4 * (2 + 9) * point + 2 * OTHER_START_S)
    assert found["cka"].seconds == pytest.approx(8 * CKA / 400 + 2 * OTHER_START_S)
    assert found["prune"].seconds == pytest.approx(2 * JOB_START_S["prune"], rel=0.1)


def test_the_longest_chain_is_one_job_of_each_stage_in_turn(empty: Config) -> None:
    found = plan.make(empty, (), rates())
    of = rows(found)
    halves = [of[stage].seconds / 2 for stage in ("prune", "retrain", "lmc")]
    assert of["lmc"].seconds > of["cka"].seconds
    assert found.longest_chain_s == pytest.approx(of["dense"].seconds + sum(halves))


def test_with_three_replicas_the_ends_are_still_measured_once(empty: Config) -> None:
    three = tiny(replicas=[1, 2, 3], densities=[0.1], temperatures=[4])
    study = study_named(three, NAME)
    pairs = pack(study, "lmc", 1, 4)
    assert len(pairs) == 3
    assert ImagePricer(study).job(pairs).reestimate == (3 + 3 * 9) * MEASURED
    assert ImagePricer(study).job(pairs[:1]).reestimate == (2 + 9) * MEASURED


def dense_images(**changes: object) -> list[float]:
    """Training images of each temperature's dense run."""
    study = study_named(tiny(**changes), NAME)
    return [ImagePricer(study).job(pack(study, "dense", 1, value)).train for value in study.config.temperatures]


def test_fixed_iterations_are_priced_by_images(empty: Config) -> None:
    iterations = {"epochs": None, "iterations": 600, "milestones": [300], "drop_last": True}
    images = dense_images(knob="batch_size", temperatures=[16, 64, 256], dense=iterations)
    assert images == [600 * 16, 600 * 64, 600 * 256]


def test_sharpness_aware_steps_cost_two_passes(empty: Config) -> None:
    assert dense_images(knob="sam_rho", temperatures=[0, 0.1]) == [4 * TRAIN, 2 * 4 * TRAIN]


def test_the_last_epochs_are_evaluated_whatever_the_interval(empty: Config) -> None:
    study = study_named(tiny(retrain={"epochs": 10, "milestones": [], "evaluate_every": 4}), NAME)
    product = pack(study, "retrain", 1, 4)[0]
    # Epochs 4 and 8 by the interval; 9 and 10 are the last two; then both splits once.
    assert ImagePricer(study).job([product]).evaluate == 4 * TEST + TRAIN + TEST


def test_a_finished_study_costs_nothing(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        found = plan.make(tiny(), ["landscape"], rates())
    assert [(row.done, row.members, row.jobs_to_run) for row in found.rows] == [
        (1, 1, 0), (2, 2, 0), (4, 4, 0), (8, 8, 0), (4, 4, 0), (4, 4, 0),
    ]  # fmt: skip
    assert found.longest_chain_s == 0 and all(row.seconds == 0 for row in found.rows)


def test_disk_agrees_with_the_files(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        config = tiny()
        found = rows(plan.make(config, (), rates()))
        for stage in ("dense", "prune", "retrain", "lmc", "cka"):
            study = study_named(config, NAME)
            files = [path for value in study.temperatures for product in pack(study, stage, 1, value)
                     for path in product.outputs]  # fmt: skip
            files += sorted((study.root / ".state").rglob("dense.state.safetensors")) if stage == "dense" else []
            actual = sum(path.stat().st_size for path in files)
            actual += plan.disk.of_logs(found[stage].jobs, found[stage].members)
            assert found[stage].size == pytest.approx(actual, rel=0.1), stage
        assert found["data"].size == pytest.approx(study.prepared.stat().st_size, rel=0.1)


def test_a_changed_setting_makes_what_follows_stale(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        found = rows(plan.make(tiny(retrain={"milestones": [1]}), (), rates()))
    assert (found["dense"].done, found["prune"].done) == (2, 4)
    assert (found["retrain"].stale, found["lmc"].stale, found["cka"].stale) == (8, 4, 4)


def test_a_new_density_and_replica_add_only_their_members(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        density = rows(plan.make(tiny(densities=[0.1, 0.5, 0.8]), (), rates()))
        replica = rows(plan.make(tiny(replicas=[1, 2, 3]), (), rates()))
    assert (density["dense"].missing, density["prune"].missing, density["retrain"].missing) == (0, 2, 4)
    assert (density["retrain"].done, density["retrain"].jobs_to_run) == (8, 2)
    assert (replica["prune"].missing, replica["retrain"].missing, replica["lmc"].missing) == (0, 4, 8)


def test_nothing_is_planned_upstream_of_imported_checkpoints(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    cell = Path("results/tiny/tiny/seed1/epochs002/density010")
    with inside(own):
        (own.path / "results").rename(own.path / "elsewhere")
        for replica in (1, 2):
            source = Path("elsewhere") / cell.relative_to("results") / f"replica{replica}" / "retrained.safetensors"
            import_checkpoint(tiny(), source, NAME, seed=1, temperature=2, density=0.1, replica=replica)
        one_cell = tiny(temperatures=[2], densities=[0.1])
        found = rows(plan.make(one_cell, ["landscape"], rates()))
        whole = rows(plan.make(one_cell, ["tables"], rates()))
    assert set(found) == {"data", "retrain", "lmc", "cka"}
    assert (found["retrain"].done, found["retrain"].jobs_to_run, found["lmc"].missing) == (2, 0, 1)
    assert whole["dense"].missing == 1, "the tables show the dense network, so they ask for it"


def test_members_that_advance_together_are_priced_so(empty: Config) -> None:
    faster = rates().model_dump()
    faster["models"]["preresnet-8x0.25"]["together_images_per_s"] = 300
    one, together = (rows(plan.make(empty, (), found)) for found in (rates(), Rates.model_validate(faster)))
    assert together["dense"].seconds == one["dense"].seconds
    images = 8 * 3 * TRAIN
    assert one["retrain"].seconds - together["retrain"].seconds == pytest.approx(images / 100 - images / 300)
    off = rows(plan.make(tiny(lockstep="off"), (), Rates.model_validate(faster)))
    assert off["retrain"].seconds == one["retrain"].seconds


@pytest.mark.parametrize(
    ("target", "stages"),
    [
        ("data", ["data"]),
        ("dense", ["data", "dense"]),
        ("retrained", ["data", "dense", "prune", "retrain"]),
        ("retrain:tiny", ["data", "dense", "prune", "retrain"]),
        ("lmc", ["data", "dense", "prune", "retrain", "lmc"]),
        ("cka:tiny", ["data", "dense", "prune", "retrain", "cka"]),
        ("discarded", ["data", "dense", "prune", "retrain", "lmc", "cka"]),
        ("tiny_lmc", ["data", "dense", "prune", "retrain", "lmc"]),
        ("tiny", ["data", "dense", "prune", "retrain", "lmc", "cka", "tables, figures"]),
        ("tables", ["data", "dense", "prune", "retrain", "lmc", "cka", "tables"]),
        ("figures", ["data", "dense", "prune", "retrain", "lmc", "cka", "figures"]),
        ("explorer", ["data", "dense", "prune", "retrain", "lmc", "cka", "tables"]),
        ("report", ["data", "dense", "prune", "retrain", "lmc", "cka", "tables, figures", "tables, figures, report"]),
    ],
)
def test_targets_choose_stages_with_all_that_they_need(empty: Config, target: str, stages: list[str]) -> None:
    assert list(rows(plan.make(empty, [target], rates()))) == stages


@pytest.mark.parametrize("target", ["tiny_report", "tiny_all", "tiny_data"])
def test_a_study_has_the_targets_of_the_workflow_alone(empty: Config, target: str) -> None:
    with pytest.raises(UserError, match=f"unknown target '{target}'"):
        plan.make(empty, [target], rates())


@pytest.mark.parametrize("target", ["landscap", "retrained:tinny", "prune:"])
def test_an_unknown_target_is_named_with_the_nearest(empty: Config, target: str) -> None:
    if target == "prune:":
        assert rows(plan.make(empty, [target], None))["prune"].jobs == 2
        return
    with pytest.raises(UserError, match=f"{target}.*did you mean '(landscape|tiny)'"):
        plan.make(empty, [target], rates())


def test_a_network_that_was_not_measured_is_scaled_and_marked(empty: Config) -> None:
    study = study_named(empty, NAME)
    assert image_speed(rates(), study).scaled == ""
    other_size = image_speed(rates(side=32), study)
    assert other_size.scaled == "preresnet-8x0.25 at 32 pixels"
    assert other_size.train == pytest.approx(100 * 16, rel=0.1), "a sixteenth of the area"
    text = render(plan.make(empty, (), rates(side=32)))
    assert "tiny*" in text and "scaled from preresnet-8x0.25 at 32 pixels" in text
    assert "*" not in render(plan.make(empty, (), rates()))


def test_hours_are_of_the_device_that_was_measured(empty: Config) -> None:
    on_gpu = plan.make(empty, (), rates("cuda"))
    assert [row.stage for row in on_gpu.rows if row.on_gpu] == ["dense", "retrain", "lmc", "cka"]
    assert not any(row.on_gpu for row in plan.make(empty, (), rates("cpu")).rows)
    assert "cuda" in render(on_gpu)


def test_pruning_by_gradients_is_work_of_the_device(empty: Config) -> None:
    """By magnitude it needs NumPy alone, on one core."""
    threaded = rates().model_copy(update={"threads": 2})
    for criterion, on_device in (("magnitude", False), ("gradient_magnitude", True)):
        chosen = tiny(prune={"criterion": criterion}).model_copy(update={"results": empty.results})
        by_gpu, by_cpu = (rows(plan.make(chosen, (), found))["prune"] for found in (rates("cuda"), threaded))
        assert (by_gpu.on_gpu, by_cpu.threads) == (on_device, 2 if on_device else 1)


def test_what_is_assumed_of_text_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    corpus = {"name": "text-files", "files": str(tmp_path), "languages": ["de", "en"]}
    text = {**corpus, "subwords": 60, "train_pairs": None}
    files = {"data": {"folder": str(tmp_path / "data")}, "results": str(tmp_path / "results")}
    overlay = tmp_path / "own.yaml"
    overlay.write_text(yaml.safe_dump({**files, "studies": {"tiny-translation": {"dataset": text}}}))
    config = load([ROOT / "config.yaml", ROOT / "config" / "tiny-translation.yaml", overlay])
    assert f"Assumed for tiny-translation: there is no {tmp_path}/train.de" in render(plan.make(config, (), rates()))
    (tmp_path / "train.de").write_text("Ein Hund .\n")
    assert "28 tokens a pair, until target `data` has counted them" in render(plan.make(config, (), rates()))


def test_without_rates_everything_but_times_is_told(empty: Config) -> None:
    text = render(plan.make(empty, (), None))
    assert "?" in text and "no rates have been measured" in text


def test_rates_are_chosen_by_device_and_the_latest_wins(tmp_path: Path) -> None:
    network = {"preresnet-20": {"train_images_per_s": 1, "evaluate_images_per_s": 1, "reestimate_images_per_s": 1,
                                "parameters": 272282}}  # fmt: skip
    for name, device, day in (("old", "cuda", "2026-01-01"), ("new", "cuda", "2026-02-01"), ("box", "cpu", None)):
        content = {"device": device, "measured": day, "machine": {"name": name}, "models": network}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert read_rates(tmp_path).machine["name"] == "new"
    assert read_rates(tmp_path, "cpu").machine["name"] == "box"
    assert read_rates(tmp_path, "old").machine["name"] == "old"
    assert read_rates(tmp_path / "nothing") is None
    with pytest.raises(UserError, match="h200"):
        read_rates(tmp_path, "h200")
    (tmp_path / "bad.json").write_text('{"device": "cpu", "models": {"preresnet-20": {}}}')
    with pytest.raises(UserError, match=r"bad\.json.*train_images_per_s"):
        read_rates(tmp_path)


def test_the_whole_paper_is_priced_quickly_and_without_torch(tmp_path: Path) -> None:
    whole = load([ROOT / "config.yaml"])
    whole = whole.model_copy(update={"results": str(tmp_path), "run": tuple(whole.studies)})
    assert len(whole.run) >= 10
    with limited_to(10):
        found = plan.make(whole, (), rates(model="preresnet-20", side=32))
    figure = {row.stage: row for row in found.rows if row.study == "cifar10-preresnet20-epochs"}
    assert [(figure[stage].jobs, figure[stage].members) for stage in ("dense", "prune", "retrain", "lmc", "cka")] == [
        (3, 48), (48, 432), (48, 1296), (48, 1296), (48, 1296),
    ]  # fmt: skip
    code = (
        "import sys, three_regime.planning.plan, three_regime.planning.status, three_regime.workflow.adopting\n"
        "import three_regime.exchange.export, three_regime.exchange.importing; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The project with no results."""
    checkout = copy_to(tmp_path_factory.mktemp("untouched") / "checkout")
    (checkout.path / "keep.yaml").write_text("studies: {tiny: {keep: endpoints}}\n")
    return checkout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("all", ["config/cifar10-cpu.yaml"]),
        ("retrained", ["config/cifar10-cpu.yaml"]),
        ("cifar10_cpu_figures", ["config/cifar10-cpu.yaml"]),
        ("tiny", ["config/tiny.yaml", "keep.yaml"]),
        ("report", ["config/reference.yaml"]),
    ],
)
def test_jobs_of_the_stages_are_counted_as_snakemake_does(untouched: Checkout, target: str, files: list[str]) -> None:
    planned = untouched.planned(target, "--configfile", *files)
    heavy = sum(count for rule, count in planned.items() if rule.split("_")[0] in STAGES)
    with inside(untouched):
        found = plan.make(load([Path("config.yaml"), *map(Path, files)]), [target], None)
    counted = [row for row in found.rows if row.stage in STAGES]
    assert sum(row.jobs for row in counted) == sum(row.jobs_to_run for row in counted) == heavy


@pytest.mark.slow
def test_of_a_finished_run_nothing_is_to_run(complete_tiny: Checkout) -> None:
    with inside(complete_tiny):
        assert not any(row.jobs_to_run for row in plan.make(tiny(), (), None).rows)


def test_the_command_prints_the_table(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        ended = CliRunner().invoke(main, ["plan", "--configfile", "config/tiny.yaml", "landscape"])
    assert ended.exit_code == 0, ended.output
    assert "retrain" in ended.output and "total" in ended.output


def test_a_study_may_be_named_like_a_part_of_another() -> None:
    whole = load([ROOT / "config.yaml", ROOT / "config" / "tiny.yaml"]).model_dump(mode="json")
    named = {"x": whole["studies"]["tiny"], "x-tables": whole["studies"]["tiny"]}
    config = resolve(whole | {"run": ["x-tables"], "studies": named})
    assert wanted(config, ["x_tables"]) == wanted(config, ["x-tables"])
    assert wanted(config, ["x_tables_retrained"]) == wanted(config, ["retrained:x-tables"])


def test_claims_that_one_dense_seed_cannot_decide_are_named() -> None:
    whole = load([ROOT / "config.yaml", ROOT / "config" / "tiny.yaml"]).model_dump(mode="json")
    side = {"temperatures": [2], "densities": [0.1]}
    claim = {"name": "hot", "statement": "…", "measure": "test_error", "of": side, "against": side, "expect": "lower"}
    for seeds, over, named in (([1], "dense seeds", True), ([1], "replicas", False), ([1, 2], "dense seeds", False)):
        study = whole["studies"]["tiny"] | {"dense_seeds": seeds, "claims": [claim | {"over": over}]}
        text = render(plan.make(resolve(whole | {"studies": {"tiny": study}}), [], None))
        assert ("One dense seed leaves claims of tiny undecided: hot." in text) == named
