"""Finished results survive a job that fails after its pack; stale results do not, and no links remain."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tiny_study
from checkout import Checkout
from finished import NAME, OPTIONS, copied, inside, study_of, tiny
from tiny_study import config, products

from three_regime.config import Config
from three_regime.jobs import kept_copies, run
from three_regime.jobs.discarding import discard
from three_regime.jobs.job import state_file
from three_regime.jobs.kept_copies import sidecar
from three_regime.jobs.run import Outcome, run_job
from three_regime.planning.explain import explain
from three_regime.study.products import Product, pack
from three_regime.study.stages import STAGES
from three_regime.system.interruption import stop_on_signals

PRESET_SECONDS = 120
"""How long a test waits for a workflow of seconds."""


@pytest.fixture
def settings(study_folder: Path) -> Config:
    """Return the study's configuration in a separate folder."""
    return config(study_folder)


def run_stage(settings: Config, stage: str, temperature: float = 2) -> Outcome:
    """Run a job as Snakemake starts it."""
    return run_job(settings, NAME, stage, 1, temperature, under_workflow=True)


@pytest.fixture(autouse=True)
def _own_signals():
    """Restore signal handlers, since a Snakemake job leaves its signals ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def members(settings: Config, stage: str, temperature: float = 2) -> list[Product]:
    return pack(tiny_study.study_of(settings), stage, 1, temperature)


def files(found: list[Product]) -> list[Path]:
    return [path for product in found for path in product.outputs]


def held(root: Path) -> list[Path]:
    """Return every link in a results folder."""
    names = {name for stage in STAGES.values() for name in stage.files}
    return [path for path in (root / ".state").rglob("*") if path.name in names]


def remove(paths: list[Path]) -> dict[Path, bytes]:
    """Remove files, as Snakemake does with the outputs of a failed job; return their content."""
    content = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    return content


@pytest.mark.parametrize("stage", ["prune", "retrain", "lmc"])
def test_a_pack_that_had_ended_is_not_computed_again(settings: Config, stage: str) -> None:
    found = members(settings, stage)
    assert run_stage(settings, stage) == Outcome(0, len(found))
    content = remove(files(found))
    assert run_stage(settings, stage) == Outcome(0, len(found))
    assert {path: path.read_bytes() for path in content} == content


def test_computed_members_are_held_until_they_are_read(settings: Config) -> None:
    study = tiny_study.study_of(settings)
    shutil.rmtree(study.at(1, 2) / "density010" / "replica1")
    assert run_stage(settings, "retrain") == Outcome(1, 3)
    content = remove(files(members(settings, "retrain")))
    assert run_stage(settings, "retrain") == Outcome(0, 4)
    assert {path: path.read_bytes() for path in content} == content
    assert {path.stem for path in held(study.root)} == {"retrained"}
    run_stage(settings, "lmc")
    assert {path.stem for path in held(study.root)} == {"lmc"}, "measuring proves that Snakemake knows the networks"


def test_without_snakemake_nothing_is_held(settings: Config) -> None:
    run_stage(settings, "cka")
    assert held(tiny_study.study_of(settings).root)
    run_job(settings, NAME, "cka", 1, 2)
    assert not held(tiny_study.study_of(settings).root)


def test_a_damaged_result_does_not_come_back(settings: Config, caplog: pytest.LogCaptureFixture) -> None:
    """The result and its link are the same file; the fingerprint in its metadata is unchanged."""
    run_stage(settings, "retrain")
    product = members(settings, "retrain")[1]
    path = product.outputs[-1]
    good = path.read_bytes()
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([good[-1] ^ 1]))
    assert product.done and sidecar(tiny_study.study_of(settings), path).read_bytes() == path.read_bytes() != good
    path.unlink()
    assert run_stage(settings, "retrain") == Outcome(1, 3)
    assert "density 10 %, replica 2 is not restored: " in caplog.text and " is damaged: " in caplog.text
    assert path.read_bytes()[-100:] == good[-100:]


def test_what_other_settings_made_does_not_come_back(settings: Config, tmp_path: Path) -> None:
    run_stage(settings, "prune")
    remove(files(members(settings, "prune")))
    other = config(tmp_path, prune={"allocation": "global"})
    assert run_stage(other, "prune") == Outcome(2, 0)


def test_a_file_system_without_hard_links_is_served_by_copies(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    run_stage(settings, "retrain")
    content = remove(files(members(settings, "retrain")))
    assert run_stage(settings, "retrain") == Outcome(0, 4)
    assert {path: path.read_bytes() for path in content} == content
    assert all(path.stat().st_nlink == 1 for path in content)


def test_what_is_removed_while_the_job_runs_is_put_back(settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """E.g. by a Snakemake that notices the failure of an earlier attempt of the same job only now."""
    found = members(settings, "retrain")
    remove(list(found[0].outputs))
    compute = run._put_back_lost
    monkeypatch.setattr(run, "_put_back_lost", lambda *given: (remove(files(found)), compute(*given)))
    assert run_stage(settings, "retrain") == Outcome(1, 3)
    assert all(product.done for product in found)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_end_is_too_late(number: int) -> None:
    with stop_on_signals(to_the_end=True) as stop:
        pass
    os.kill(os.getpid(), number)
    assert not stop.requested


def test_after_a_failure_signals_mean_what_they_meant() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), stop_on_signals(to_the_end=True):
        _ = 1 / 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_state_that_outlived_its_run_is_removed(settings: Config) -> None:
    state = state_file(tiny_study.study_of(settings), members(settings, "retrain")[0])
    state.write_text("of a job that was killed when the result had just been written")
    assert run_stage(settings, "retrain") == Outcome(0, 4)
    assert not state.exists()


def test_discarded_weights_are_not_held(settings: Config, tmp_path: Path) -> None:
    """Disk space is freed even if jobs were killed before they removed their links."""
    none = config(tmp_path, keep="none")
    study = tiny_study.study_of(none)
    for stage in ("lmc", "cka"):
        run_stage(none, stage)
    for path in files(products(none, "retrain")):
        kept_copies.keep(study, path)
    retrained = [path for path in files(members(none, "retrain")) if path.suffix == ".safetensors"]
    assert all(path.stat().st_nlink == 2 for path in retrained)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path in retrained]
        discard(none, NAME, 1, 2)
        assert all(os.fstat(file.fileno()).st_nlink == 0 for file in opened), "no name is left"
    assert not [path for path in held(study.root) if "epochs002" in path.parts]
    assert [path for path in held(study.root) if "epochs001" in path.parts], "these have not been discarded"


# -- at the beginning and at the end of a workflow


def test_links_of_recorded_files_go_and_no_others(settings: Config) -> None:
    study = tiny_study.study_of(settings)
    for path in files(products(settings, "retrain")):
        kept_copies.keep(study, path)
    recorded = files(members(settings, "retrain"))
    kept_copies.drop_recorded(
        study.root, [*map(str, recorded), "elsewhere/retrained.json", str(study.root / "report.html")]
    )
    assert sorted(held(study.root)) == sorted(
        sidecar(study, path) for path in files(members(settings, "retrain", temperature=1))
    )
    assert all(path.exists() for path in recorded)


def test_stale_results_make_way_with_all_that_was_made_from_them(settings: Config, tmp_path: Path) -> None:
    study = tiny_study.study_of(settings)
    other = tiny_study.study_of(config(tmp_path, retrain={"learning_rate": 0.05}))
    stale = [path for stage in ("retrain", "lmc", "cka") for path in files(members(settings, stage))]
    planned = [str(path) for stage in STAGES for path in files(members(settings, stage))]
    before = {path: path.read_bytes() for path in stale}
    for path in files(members(settings, "retrain")):
        kept_copies.keep(study, path)  # a link in that place already, to the same file
    assert kept_copies.set_aside([other], planned) == 4 + 2 + 2
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for stage in ("dense", "prune") for path in files(members(settings, stage)))
    assert all(path.exists() for path in files(members(settings, "retrain", temperature=1))), "no job is planned there"
    assert kept_copies.restore_all([other]) == 0
    assert kept_copies.restore_all([study]) == 8, "the old settings are back"
    assert not held(study.root)
    assert {path: path.read_bytes() for path in stale} == before
    assert kept_copies.set_aside([study], planned) == 0


def test_a_missing_input_makes_nothing_stale(settings: Config) -> None:
    planned = [str(path) for stage in STAGES for path in files(members(settings, stage))]
    remove(files(members(settings, "prune")))
    assert kept_copies.set_aside([tiny_study.study_of(settings)], planned) == 0


def test_a_finished_successor_is_not_lost_to_what_it_replaces(settings: Config, tmp_path: Path) -> None:
    changed = config(tmp_path, retrain={"learning_rate": 0.05})
    product = members(settings, "retrain")[0]
    old = {path: path.read_bytes() for path in product.outputs}
    run_stage(changed, "retrain")
    new = {path: path.read_bytes() for path in product.outputs}
    for path, content in old.items():  # as Snakemake puts them back, into another file or the same
        path.unlink()
        path.write_bytes(content)
    assert kept_copies.set_aside([tiny_study.study_of(changed)], map(str, product.outputs)) == 1
    assert run_stage(changed, "retrain") == Outcome(0, 4)
    assert {path: path.read_bytes() for path in product.outputs} == new


# -- in a workflow


def spoil(checkout: Checkout, ending: str) -> Path:
    """Make the retraining script end in this way while the returned file exists."""
    script = checkout.path / "scripts" / "retrain.py"
    flag = checkout.path / "spoilt"
    flag.touch()
    action = {
        "never begun": "raise SystemExit(9)",
        "failed after its end": "raise SystemExit(9)",
        "killed after its end": "os.killpg(0, 9)",
    }[ending]
    trap = f"import os\nif os.path.exists({str(flag)!r}):\n    {action}\n"
    text = script.read_text()
    script.write_text(trap + text if ending == "never begun" else text + trap)
    return flag


def start(checkout: Checkout, *arguments: str) -> str:
    """Run the workflow in its own process group; return its output."""
    log = checkout.path / "output.txt"
    with open(log, "w") as stream:
        process = subprocess.Popen(
            checkout.command(*arguments), cwd=checkout.path, env=checkout.environment(), stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
        process.wait(PRESET_SECONDS)
    time.sleep(0.2)
    return log.read_text()


def results_of(checkout: Checkout, stage: str) -> dict[Path, bytes]:
    with inside(checkout):
        found = [path for temperature in (2, 4) for path in files(pack(study_of(tiny()), stage, 1, temperature))]
        return {path: path.read_bytes() for path in found if path.exists()}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["failed after its end", "killed after its end"])
def test_a_job_that_ends_badly_keeps_its_finished_pack(complete_tiny: Checkout, tmp_path: Path, ending: str) -> None:
    own = copied(complete_tiny, tmp_path / "own")
    assert not held(own.path / "results/tiny"), "a run that ended well holds nothing"
    for path in results_of(own, "retrain"):
        (own.path / path).unlink()
    flag = spoil(own, ending)
    output = start(own, "retrained", *OPTIONS)
    ended = re.findall(r"INFO (retrain tiny seed1 epochs\d+): 4 computed, 0 kept", output)
    assert ended, output
    left = results_of(own, "retrain")
    assert not left if ending == "failed after its end" else left
    flag.unlink()
    output = own.run("retrained", *OPTIONS)
    assert ("results of unfinished jobs were restored" in output) == (ending == "failed after its end")
    for title in ended:  # with all in its place and recorded, nothing is left to do
        assert f"{title}: 0 computed, 4 kept" in output or title not in output, output
    assert len(results_of(own, "retrain")) == 16
    assert not held(own.path / "results/tiny")
    assert own.planned("retrained", *OPTIONS) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "target", "stale"), [("never begun", "tables", 16), ("failed after its end", "retrained", 8)]
)
def test_a_failed_job_leaves_nothing_stale_behind(
    complete_tiny: Checkout, tmp_path: Path, ending: str, target: str, stale: int
) -> None:
    """Snakemake records the new settings for a failed job's outputs too, and would treat the old ones as up to date."""
    own = copied(complete_tiny, tmp_path / "own")
    (own.path / "rate.yaml").write_text("studies: {tiny: {retrain: {learning_rate: 0.05}}}\n")
    before = results_of(own, "retrain")
    flag = spoil(own, ending)
    arguments = (target, *OPTIONS, "rate.yaml")
    output = own.run(*arguments, check=False)
    assert f"{stale} stale results are kept in .state until they have been recomputed" in output
    assert not results_of(own, "retrain")
    assert own.planned(*arguments)["retrain_tiny"] == 2
    flag.unlink()
    output = own.run(*arguments)
    assert output.count(": 4 computed, 0 kept") == (2 if ending == "never begun" else 0), output
    assert ("8 results of unfinished jobs were restored" in output) == (ending == "failed after its end")
    assert results_of(own, "retrain").keys() == before.keys()
    assert all(content != before[path] for path, content in results_of(own, "retrain").items())
    with inside(own):
        changed = tiny(retrain={"learning_rate": 0.05})
        assert all(finding.done for finding in explain(changed, None if target == "tables" else target))
    assert not held(own.path / "results/tiny")


def test_a_result_that_is_there_is_not_restored(settings: Config) -> None:
    study, product = tiny_study.study_of(settings), members(settings, "retrain")[0]
    for path in product.outputs:
        kept_copies.keep(study, path)
    assert product.done and not kept_copies.restore(study, product)
    product.outputs[0].unlink()
    assert kept_copies.restore(study, product) and product.done
