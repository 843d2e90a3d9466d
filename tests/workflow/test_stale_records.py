"""Tables never mix results of two configurations, whatever was edited and whatever Snakemake has recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from checkout import ROOT, Checkout
from finished import FILES, OPTIONS, copied, inside, study_of, tiny
from snakemake.settings.types import ConfigSettings, StorageSettings
from snakemake.spawn_jobs import SpawnedJobArgsFactory

from three_regime.analysis import case_studies, tables
from three_regime.config import load
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.exchange.export import export
from three_regime.jobs.without_snakemake import run_stage
from three_regime.study import runs
from three_regime.study.grid import planned
from three_regime.study.verdicts import judge, unfit
from three_regime.system.files import read_arrays, tensor_digest
from three_regime.workflow.running import freeze
from three_regime.workflow.stale_records import plan_again

POINTS = "measure: {points: 5, train_images: 256, cka_images: 256, last_epochs: 2}"
"""An edit of ``config/tiny.yaml`` that concerns LMC alone."""

CHANGED = "points from 11 to 5"
STUDY = Path("results/tiny/tiny")


@pytest.fixture
def own(complete_tiny: Checkout, tmp_path: Path) -> Checkout:
    """A checkout for one test, in which Snakemake has nothing to do."""
    return copied(complete_tiny, tmp_path / "own")


def edit(checkout: Checkout) -> str:
    """Edit the configuration; return its previous text."""
    path = checkout.path / "config/tiny.yaml"
    before = path.read_text()
    path.write_text(before.replace("measure: {train_images: 256, cka_images: 256, last_epochs: 2}", POINTS))
    assert path.read_text() != before
    return before


def points(checkout: Checkout) -> set[int]:
    """Points on the lines of the table, over all pairs."""
    lines = pd.read_csv(checkout.path / STUDY / "lines.csv")
    return set(lines.groupby(["temperature", "density", "pair"]).size())


def right(checkout: Checkout) -> bool:
    """Whether every result, and the tables, follow from the configuration as it is now."""
    with inside(checkout):
        (study,) = planned(load(FILES))
        return all(finding.done for finding in judge(study)) and plan_again([study]) == []


def test_an_edit_while_jobs_run_changes_nothing_of_that_run(own: Checkout) -> None:
    for path in (own.path / STUDY).rglob("lmc.json"):
        path.unlink()
    earlier = set((own.path / "results/tiny/logs/runs").iterdir())
    process = subprocess.Popen(
        own.command("landscape", "tables", *OPTIONS), cwd=own.path, env=own.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (begun := set((own.path / "results/tiny/logs/runs").glob("*.yaml")) - earlier):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    before = edit(own)
    base = (own.path / "config.yaml").read_text()
    (own.path / "config.yaml").write_text("edited: [and not yet whole\n")
    said = process.communicate(timeout=300)[0]
    (own.path / "config.yaml").write_text(base)
    assert process.returncode == 0, said[-3000:]
    (frozen,) = (path.relative_to(own.path) for path in begun)
    assert f"all jobs of this run use the settings in {frozen}" in said
    assert "config/tiny.yaml, config.yaml: edited during this run" in said.replace(
        "config.yaml, config/tiny.yaml", "config/tiny.yaml, config.yaml"
    )
    assert points(own) == {11}
    result = json.loads(next((own.path / STUDY).rglob("lmc.json")).read_text())
    assert result["provenance"]["run"] == str(frozen)
    assert str(frozen) in (own.path / "results/tiny/logs/lmc/tiny/seed1-epochs002.log").read_text()
    # The edit counts from the next start on, and undone it is as if it had never been.
    assert own.planned("landscape", *OPTIONS)["lmc_tiny"] == 2
    (own.path / "config/tiny.yaml").write_text(before)
    assert right(own)


def test_touched_after_an_edit_nothing_passes_for_up_to_date(own: Checkout) -> None:
    edit(own)
    own.run("--touch", "tables", *OPTIONS)
    with inside(own), pytest.raises(UserError, match=rf"4 results of tiny \(4 lmc\) .*{CHANGED}; run `python -m"):
        run_stage("tables", FILES)
    said = own.run("tables", *OPTIONS)
    assert f"to be recomputed: {STUDY}/seed1/epochs002/density010/pair1-2/lmc.json and 3 more" in said
    assert CHANGED in said
    assert points(own) == {5} and right(own)


def test_an_edit_that_was_undone_leaves_no_result_of_it(own: Checkout) -> None:
    """As after a run of old, whose later jobs took the edit: results of both kinds, one record."""
    before = edit(own)
    with inside(own):
        run_stage("lmc", FILES, temperatures=[2])
    (own.path / "config/tiny.yaml").write_text(before)
    said = own.run("--dry-run", "tables", *OPTIONS)
    assert "to be recomputed" in said and "points from 5 to 11" in said
    with inside(own), pytest.raises(UserError, match=r"2 results of tiny \(2 lmc\).*points from 5 to 11"):
        tables.write(study_of(tiny()))
    own.run("tables", *OPTIONS)
    assert points(own) == {11} and right(own)


def test_results_copied_over_others_are_noticed(own: Checkout, tmp_path: Path) -> None:
    other = copied(own, tmp_path / "other")
    edit(other)
    with inside(other):
        run_stage("lmc", FILES)
    for path in (other.path / STUDY).rglob("lmc.json"):
        target = own.path / path.relative_to(other.path)
        times = target.stat()
        shutil.copy(path, target)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    planned_now = own.planned("tables", *OPTIONS)
    assert planned_now["lmc_tiny"] == 2 and planned_now["cells_tiny"] == 1


def test_a_copy_beside_recorded_results_is_noticed(own: Checkout) -> None:
    """A replica more, made from another: Snakemake has no record of it, and would believe its age."""
    with inside(own):
        for path in list(STUDY.rglob("replica1")):
            shutil.copytree(path, path.with_name("replica3"))
        study = study_of(tiny(replicas=[1, 2, 3]))
        copies = sorted(STUDY.rglob("replica3/retrained.safetensors"))
        assert len(copies) == 4 and min(path.stat().st_mtime for path in copies) > 1e9
        (line,) = [line for line in plan_again([study]) if "retrain" in line]
        assert "replica3" in line and "and 3 more: retrain, stale" in line
        assert max(path.stat().st_mtime for path in copies) < 1e9


def test_a_study_renamed_with_its_folder_gets_tables_of_its_name(own: Checkout) -> None:
    (own.path / STUDY).rename(own.path / "results/tiny/renamed")
    path = own.path / "config/tiny.yaml"
    path.write_text(path.read_text().replace("run: [tiny]", "run: [renamed]").replace("\n  tiny:\n", "\n  renamed:\n"))
    own.run("tables", *OPTIONS)
    for name in ("cells", "grid", "selection"):
        table = pd.read_csv(own.path / f"results/tiny/renamed/{name}.csv")
        assert set(table["study"]) == {"renamed"}, name
    assert set(pd.read_csv(own.path / "results/tiny/case_studies/family.csv")["study"]) == {"renamed"}


def test_tables_of_another_study_are_named(finished_tiny: Checkout, tmp_path: Path) -> None:
    grid = tmp_path / "grid.csv"
    columns = "study,dataset,model,knob,temperature,test_error_of_seeds,test_error_highest"
    grid.write_text(f"{columns}\nold,digits,preresnet-8x0.25,epochs,2,1,0.5\n")
    with pytest.raises(UserError, match=r"grid\.csv is a table of study 'old', which is not one of new"):
        case_studies.write(tmp_path, [grid], {"new": Thresholds()})


def test_what_is_looked_at_again_is_left_alone_when_it_is_right(own: Checkout) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (own.path / "results").rglob("*") if path.is_file()}

    before = times()
    assert right(own)
    assert own.planned(*OPTIONS) == {}
    assert times() == before


def test_a_flipped_bit_is_mended_by_the_next_run(own: Checkout) -> None:
    """The file is newer than Snakemake's record, so it is read."""
    path = own.path / STUDY / "seed1/epochs004/density010/replica2/retrained.safetensors"
    whole, expected = path.read_bytes(), tensor_digest(read_arrays(path))
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    result = own.path / STUDY / "seed1/epochs002/density010/pair1-2/lmc.json"
    result.write_text(result.read_text()[:-9])
    said = own.run("tables", *OPTIONS)
    for each in (path, result):
        name = each.relative_to(own.path)
        assert f"{name}.damaged" in said and Path(f"{each}.damaged").exists()
    assert tensor_digest(read_arrays(path)) == expected
    assert right(own)


def test_a_lost_result_is_computed_again(own: Checkout) -> None:
    """Snakemake makes a file only for what is to be made of it, and the tables were complete."""
    path = own.path / STUDY / "seed1/epochs004/density010/replica2/retrained.safetensors"
    expected = tensor_digest(read_arrays(path))
    for each in (path, path.with_suffix(".json")):
        each.unlink()
    assert "retrained.json must be computed first" in own.run(*OPTIONS)
    assert tensor_digest(read_arrays(path)) == expected
    assert right(own) and own.planned(*OPTIONS) == {}


def test_a_changed_checkout_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "three_regime"
    package.mkdir()
    for name in ("pruning.py", "tables.py"):
        (package / name).write_text("")
        os.utime(package / name, (1_700_000_000, 1_700_000_000))
    monkeypatch.setattr(runs, "_CODE", package)
    settings = tmp_path / "mine.yaml"
    settings.write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    with inside(Checkout(ROOT)):
        config = tiny()
    run = runs.begin(config, runs.digests([settings]))
    assert (run.changed_code, run.edited) == ("", [])
    assert run.record() == {"run": run.file}
    (package / "pruning.py").write_text("# edited\n")
    settings.unlink()
    assert run.changed_code == "three_regime/pruning.py" and run.edited == ["mine.yaml"]
    assert run.record()["changed_code"] == "three_regime/pruning.py"
    assert load([Path(run.file)]) == config, "the file of a run is a configuration"


def test_unfit_results_are_those_of_other_settings(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        assert unfit(study_of(tiny())) == []
        wrong = unfit(study_of(tiny(measure={"points": 5})))
    assert {(each.product.stage, each.reason) for each in wrong} == {("lmc", CHANGED)}


def test_an_export_does_not_join_tables_to_other_settings(finished_tiny: Checkout, tmp_path: Path) -> None:
    with inside(finished_tiny):
        assert export(tiny(), tmp_path / "mine").is_dir()
        with pytest.raises(UserError, match=f"4 results of tiny .4 lmc. .*{CHANGED}"):
            export(tiny(measure={"points": 5}), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_jobs_elsewhere_are_given_the_file_of_the_run(finished_tiny: Checkout, tmp_path: Path) -> None:
    """The command line of a cluster job names only that file, not the user's files, which may have been edited."""
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        settings = ConfigSettings(config={"threads": 1}, configfiles=[Path("config/tiny.yaml")])
        workflow = SimpleNamespace(config_settings=settings, config={}, storage_settings=StorageSettings())
        freeze(workflow, tiny(measure={"points": 5}), {})
        workflow.overwrite_configfiles = settings.configfiles
        *_, frozen = sorted(Path("results/tiny/logs/runs").glob("*.yaml"))
        factory = SpawnedJobArgsFactory(workflow)
        assert factory.get_configfiles_arg() == f"--configfiles {frozen.absolute()}"
        assert factory.workflow_property_to_arg("config_settings.config_args", flag="--config") == ""
        Path("config.yaml").write_text("edited: [and not yet whole\n")
        Path("config/tiny.yaml").unlink()
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--mode", "remote", "--cores", "1", "--force"]
        target = f"{STUDY}/seed1/epochs002/density010/pair1-2/lmc.json"
        ended = subprocess.run(
            [*command, "--configfiles", str(frozen), "--nolock", "--", target], capture_output=True, text=True,
            env=own.environment(),
        )  # fmt: skip
    assert ended.returncode == 0 and "lmc_tiny" in ended.stdout + ended.stderr, ended.stderr
