"""Recomputing results on request, and the message when forced jobs computed nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from tiny_study import command, config, digests, finish, products, run, study_of

from three_regime import cli
from three_regime.errors import UserError
from three_regime.jobs import kept_copies
from three_regime.jobs.job import locked, state_file, state_files
from three_regime.jobs.run import Outcome
from three_regime.study.products import job_place
from three_regime.study.verdicts import judge
from three_regime.workflow import snakemake_lock
from three_regime.workflow.recomputing import notice, set_aside


def missing(folder: Path) -> dict[str, int]:
    """Stage → results that are not there."""
    found = [each.product.stage for each in judge(study_of(config(folder))) if not each.done]
    return {stage: found.count(stage) for stage in dict.fromkeys(found)}


def test_a_member_is_computed_anew_and_what_follows_is_kept(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study_folder)
    settings = config(study_folder)
    product = products(settings, "retrain")[0]
    before, time = digests(settings, "retrain"), product.outputs[0].stat().st_mtime_ns
    kept_copies.keep(study_of(settings), product.outputs[0])
    kept_copies.keep(study_of(settings), product.outputs[1])
    found = set_aside(settings, [product.outputs[1]])
    assert [each.outputs for each in found.products] == [product.outputs]
    assert all((found.folder / path.relative_to(settings.results)).exists() for path in product.outputs)
    assert not any(path.exists() or kept_copies.sidecar(study_of(settings), path).exists() for path in product.outputs)
    assert run(settings, "retrain") == Outcome(1, 7)
    assert product.outputs[0].stat().st_mtime_ns > time
    assert digests(settings, "retrain") == before
    assert run(settings, "lmc") == Outcome(0, 4)


def test_a_dense_run_begins_at_its_start_again(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would resume from its kept state, which is its end."""
    monkeypatch.chdir(study_folder)
    settings = config(study_folder)
    last = products(settings, "dense")[-1]
    state = state_file(study_of(settings), last)
    assert state.exists()
    found = set_aside(settings, [last.outputs[0]])
    assert not state.exists()
    assert (found.folder / state.relative_to(settings.results)).exists()
    log = finish(command(study_folder, "dense"))
    assert "1 computed, 1 kept" in log
    assert "continues after" not in log


def test_rounds_of_pruning_begin_at_their_start_again(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study_folder)
    settings = config(study_folder, prune={"rounds": 3, "epochs": 1})
    product = products(settings, "prune")[0]
    states = state_files(study_of(settings), product)
    assert [state.name for state in states] == ["prune1.state.safetensors", "prune2.state.safetensors"]
    for state in states:
        state.parent.mkdir(parents=True, exist_ok=True)
        state.touch()
    found = set_aside(settings, [product.outputs[0]])
    assert not any(state.exists() for state in states)
    assert all((found.folder / state.relative_to(settings.results)).exists() for state in states)


def test_folders_name_all_results_below_them(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study_folder)
    settings = config(study_folder)
    cell = products(settings, "prune")[0].outputs[0].parent
    overlay = command(study_folder, "dense")[-1]
    options = ["--base", overlay, str(cell), str(products(settings, "cka")[-1].outputs[0])]
    shown = CliRunner().invoke(cli.main, ["recompute", "--dry-run", *options])
    assert shown.exit_code == 0 and "would be set aside" in shown.output
    assert missing(study_folder) == {}
    done = CliRunner().invoke(cli.main, ["recompute", *options])
    assert done.exit_code == 0, done.output
    assert missing(study_folder) == {"prune": 1, "retrain": 2, "lmc": 1, "cka": 2}
    assert done.output.count("\n") == shown.output.count("\n") == 7


def test_what_is_no_result_is_refused_and_nothing_is_touched(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study_folder)
    settings = config(study_folder)
    good = products(settings, "cka")[0].outputs[0]
    for wrong in (study_folder / "results/tiny/cells.csv", study_folder / "nowhere"):
        with pytest.raises(UserError, match=f"{wrong} is not a result .*cka, measures of"):
            set_aside(settings, [good, wrong])
    (study_folder / snakemake_lock.LOCKS).mkdir(parents=True)
    (study_folder / snakemake_lock.LOCKS / "0.output.lock").touch()
    with pytest.raises(UserError, match="a run is in progress.* workflow --unlock"):
        set_aside(settings, [good])
    assert missing(study_folder) == {}


def test_results_of_a_running_job_are_not_touched(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run-stage` needs no lock of Snakemake's."""
    monkeypatch.chdir(study_folder)
    settings = config(study_folder)
    study, product = study_of(settings), products(settings, "dense")[-1]
    before = products(settings, "cka")[0].outputs[0]
    with locked(study, "dense", *job_place(study, product)):
        with pytest.raises(UserError, match="dense tiny seed1: a job is in progress: nothing was set aside"):
            set_aside(settings, [before, product.outputs[0]])
        assert missing(study_folder) == {} and state_file(study, product).exists()
        assert len(set_aside(settings, [product.outputs[0]], dry_run=True).products) == 1
    assert len(set_aside(settings, [before, product.outputs[0]]).products) == 2


# Forced jobs


def ended(tmp_path: Path, *outcomes: str, **given: object) -> SimpleNamespace:
    """A workflow that has ended, whose jobs logged these outcomes."""
    jobs = [SimpleNamespace(rule=SimpleNamespace(name="all"), log=[])]
    for number, outcome in enumerate(outcomes):
        log = tmp_path / f"{number}.log"
        log.write_text(f"12:00:00 INFO retrain tiny seed1: 9 computed, 0 kept\n12:10:00 INFO retrain tiny: {outcome}\n")
        jobs.append(SimpleNamespace(rule=SimpleNamespace(name="retrain_tiny"), log=[str(log)]))
    settings = {"forceall": False, "forcerun": frozenset(), "forcetargets": False, **given}
    dag = SimpleNamespace(needrun_jobs=lambda exclude_finished: jobs)
    return SimpleNamespace(dag_settings=SimpleNamespace(**settings), dag=dag)


@pytest.mark.parametrize("given", [{"forceall": True}, {"forcerun": {"retrain_tiny"}}, {"forcetargets": True}])
def test_forced_jobs_that_computed_nothing_are_spoken_of(tmp_path: Path, given: dict) -> None:
    told = notice(ended(tmp_path, "0 computed, 4 kept", "0 computed, 3 kept", **given))
    assert "2 jobs were forced to run and computed nothing: all 7 results" in told
    assert "python -m three_regime recompute" in told


def test_else_nothing_is_said(tmp_path: Path) -> None:
    assert notice(ended(tmp_path, "0 computed, 4 kept")) == ""
    assert notice(ended(tmp_path, "0 computed, 4 kept", "1 computed, 3 kept", forceall=True)) == ""
    assert notice(ended(tmp_path, forceall=True)) == ""
