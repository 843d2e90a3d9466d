"""Jobs that fail, are stopped, or have damaged inputs: finished results survive, and the message names the fault."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_study import NAME, config, digests, files, products, run, run_to, study_of

from three_regime.analysis import tables
from three_regime.config import Config
from three_regime.errors import Interrupted, UserError
from three_regime.jobs.job import locked, sidecar, state_files
from three_regime.jobs.run import Outcome, run_job
from three_regime.study.products import Product, pack
from three_regime.system.files import read_arrays, read_json, read_metadata, write_arrays


def failing_pack(settings: Config) -> tuple[list[Product], Product]:
    """Members of the pack at temperature 2, and the third, whose pruned weights are poisoned."""
    members = pack(study_of(settings), "retrain", 1, 2)
    return members, members[2]


def poison(path: Path) -> dict[str, np.ndarray]:
    """Replace the classifier's bias by NaN; returns the sound arrays."""
    arrays = read_arrays(path)
    spoilt = {**arrays, "fc.bias": np.full_like(arrays["fc.bias"], np.nan)}
    write_arrays(path, spoilt, read_metadata(path))
    return arrays


def test_finished_members_survive_the_failure_of_a_mate(study_folder, caplog):
    settings = config(study_folder)
    members, bad = failing_pack(settings)
    expected = digests(settings, "retrain")
    for member in members:
        for path in member.outputs:
            path.unlink()
    sound = poison(bad.inputs["pruned"])
    with pytest.raises(UserError, match=r"density 50 %, replica 1: the loss is not finite in epoch 1, step 1 "):
        run(settings, "retrain")
    done = members[:2]
    for member in done:
        assert all(sidecar(study_of(settings), path).exists() for path in member.outputs)
        for path in member.outputs:
            path.unlink()  # as Snakemake does with the outputs of a failed job
    write_arrays(bad.inputs["pruned"], sound, read_metadata(bad.inputs["pruned"]))
    with caplog.at_level("INFO"):
        assert run(settings, "retrain") == Outcome(2, 6)
    assert caplog.text.count("restored from an earlier, unfinished job") == 2
    assert digests(settings, "retrain") == expected
    assert not sidecar(study_of(settings), done[0].outputs[0]).exists()


def test_what_was_kept_aside_is_not_restored_when_it_is_stale(study_folder):
    settings = config(study_folder)
    members, bad = failing_pack(settings)
    for member in members:
        for path in member.outputs:
            path.unlink()
    poison(bad.inputs["pruned"])
    with pytest.raises(UserError):
        run(settings, "retrain")
    for member in members[:2]:
        for path in member.outputs:
            path.unlink()
    other = config(study_folder, retrain={"learning_rate": 0.05})
    with pytest.raises(UserError):
        run(other, "retrain")
    weights = read_metadata(members[0].outputs[-1])
    fresh = pack(study_of(other), "retrain", 1, 2)[0]
    assert weights["fingerprint"] == fresh.fingerprint


@pytest.mark.parametrize(
    ("stage", "role"),
    [("prune", "dense"), ("retrain", "pruned"), ("lmc", "first"), ("cka", "second"), ("dense", "data")],
)
def test_a_truncated_input_is_named(study_folder, stage, role):
    settings = config(study_folder)
    path = products(settings, stage)[-1].inputs[role]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path} is not a complete"):
        run(settings, stage)


def test_a_missing_input_is_named(study_folder):
    settings = config(study_folder)
    product = products(settings, "prune")[0]
    path = product.inputs["dense"]
    path.unlink()
    assert run(settings, "prune").computed == 0, "what is finished needs its input no more (`keep`)"
    product.outputs[0].unlink()
    with pytest.raises(UserError, match=f"{path} is missing"):
        run(settings, "prune")


@pytest.mark.parametrize(("stage", "role"), [("retrain", "pruned"), ("lmc", "first"), ("cka", "second")])
def test_a_checkpoint_of_another_architecture_is_named(study_folder, tmp_path_factory, stage, role):
    settings = config(study_folder)
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(study_folder / "data", other / "data")
    wider = config(other, model="preresnet-8x0.5", temperatures=[1], replicas=[1], densities=[0.1], dense={"epochs": 1})
    run_to(wider, "retrain")
    source = {"pruned": "prune"}.get(role, "retrain")
    path = products(settings, stage)[0].inputs[role]
    shutil.copy(products(wider, source)[0].outputs[-1], path)
    with pytest.raises(UserError, match=f"{path} is of another architecture.*shape"):
        run(settings, stage)


def test_a_checkpoint_from_elsewhere_is_refused(study_folder):
    settings = config(study_folder)
    path = products(settings, "prune")[0].inputs["dense"]
    write_arrays(path, read_arrays(path), {})
    files(settings, "prune")[0].unlink()
    with pytest.raises(UserError, match=f"{path} does not say which weights are prunable"):
        run(settings, "prune")


def test_results_that_are_no_numbers_are_refused_in_one_sentence(study_folder, monkeypatch):
    from three_regime.jobs import cka

    settings = config(study_folder)
    files(settings, "cka")[0].unlink()
    monkeypatch.setattr(cka, "similarity", lambda *_: {"logits": 1.0, "softmax": float("inf"), "images": 2})
    with pytest.raises(UserError, match="cka tiny seed1 epochs001, density 10 %, pair 1-2: .*not a finite number"):
        run(settings, "cka")


@pytest.mark.parametrize("stage", ["lmc", "cka"])
def test_a_pair_without_a_number_stops_no_other(study_folder, monkeypatch, stage):
    from three_regime.jobs import cka, lmc

    settings = config(study_folder)
    pairs = files(settings, stage)
    for path in pairs:
        path.unlink()
    module, name, spoilt = {
        "lmc": (lmc.mode_connectivity, "line", "lmc_nll"), "cka": (cka, "similarity", "logits"),
    }[stage]  # fmt: skip
    original, calls = getattr(module, name), []

    def first_spoilt(*arguments):
        calls.append(1)
        return {**original(*arguments), **({spoilt: float("inf")} if len(calls) == 1 else {})}

    with monkeypatch.context() as patched:
        patched.setattr(module, name, first_spoilt)
        with pytest.raises(UserError, match="not a finite number"):
            run(settings, stage)
    assert [path.exists() for path in pairs] == [False, True, False, False], "the other pair of the job"
    assert run(settings, stage) == Outcome(3, 1)


def test_cka_of_a_network_with_one_answer_is_undefined(study_folder, monkeypatch, caplog):
    """A collapsed network makes a missing value in the tables, not a study without tables."""
    from three_regime.jobs import cka

    settings = config(study_folder)
    path = files(settings, "cka")[0]
    path.unlink()
    constant = {"logits": np.ones((8, 10)), "softmax": np.full((8, 10), 0.1)}
    original = cka.similarity
    monkeypatch.setattr(cka, "similarity", lambda first, second, unit: original(constant, constant, unit))
    assert run(settings, "cka").computed == 1
    assert (read_json(path)["logits"], read_json(path)["softmax"]) == (None, None)
    assert "CKA of ['logits', 'softmax'] is undefined: a network's outputs are constant" in caplog.text
    found = tables.build(study_of(settings))
    assert found["pairs"]["cka_softmax"].isna().sum() == 1 and found["pairs"]["lmc"].notna().all()
    monkeypatch.undo()
    path.unlink()
    run(settings, "cka")


def test_a_replica_whose_loss_is_infinite_stops_no_other(study_folder, monkeypatch):
    """Its training loss on the whole training set, which only the measurement at its end shows."""
    from three_regime.jobs import retrain

    settings = config(study_folder)
    members, bad = failing_pack(settings)
    for member in members:
        for path in member.outputs:
            path.unlink()
    measured = retrain.measured

    def spoilt(task, arrays, source, *rest):
        found = measured(task, arrays, source, *rest)
        return {**found, "train": {**found["train"], "nll": float("inf")}} if source == str(bad.outputs[-1]) else found

    monkeypatch.setattr(retrain, "measured", spoilt)
    with pytest.raises(UserError, match="^density 50 %, replica 1: a result is not a finite number after epoch 2 "):
        run(settings, "retrain")
    assert [member.done for member in members] == [True, True, False, True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", ["lmc", "cka"])
def test_a_signal_ends_measuring_and_finished_pairs_stay(study_folder, monkeypatch, stage, number):
    """A pair may take minutes on a CPU: the job does not wait for its end."""
    from three_regime.jobs import cka, lmc

    settings = config(study_folder)
    pairs = files(settings, stage)
    for path in pairs:
        path.unlink()
    module, name = {"lmc": (lmc.mode_connectivity, "line"), "cka": (cka, "similarity")}[stage]
    original, calls = getattr(module, name), []

    def signalled(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
            pytest.fail("went on after the signal")
        return original(*arguments, **options)

    before = signal.getsignal(number)
    monkeypatch.setattr(module, name, signalled)
    with pytest.raises(Interrupted, match=number.name):
        run(settings, stage)
    assert signal.getsignal(number) == before
    assert [path.exists() for path in pairs] == [True, False, False, False]
    monkeypatch.undo()
    assert run(settings, stage) == Outcome(3, 1)


def test_two_processes_take_turns(study_folder, caplog):
    """The second job waits for the first, and then has nothing to do."""
    settings = config(study_folder)
    lost = files(settings, "prune")[0]
    lost.unlink()
    entered, leave = threading.Event(), threading.Event()
    study = study_of(settings)

    def hold() -> None:
        with locked(study, "prune", 1, 1, None):
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    threading.Timer(0.3, leave.set).start()
    began = time.monotonic()
    run(settings, "prune")
    holder.join()
    assert time.monotonic() - began >= 0.25
    assert "another process is working on prune tiny seed1 epochs001: waiting" in caplog.text
    assert lost.exists()


def test_an_unknown_study_or_a_missing_temperature_is_refused(study_folder):
    settings = config(study_folder)
    with pytest.raises(UserError, match="no study 'tinny'; .*tiny"):
        run_job(settings, "tinny", "dense", 1)
    with pytest.raises(UserError, match="prune needs a temperature"):
        run_job(settings, NAME, "prune", 1)


def test_a_lock_that_cannot_be_written_is_named(study_folder):
    settings = config(study_folder)
    state = study_folder / "results" / ".state"
    shutil.rmtree(state)
    state.write_text("a file in the place of the folder")
    with pytest.raises(UserError, match=f"cannot write {state}/tiny/seed1/epochs001: Not a directory"):
        run(settings, "prune")


@pytest.mark.parametrize(
    ("stage", "settings_of_pruning", "outcome"),
    [("retrain", {}, Outcome(1, 7)), ("prune", {"rounds": 2, "epochs": 1}, Outcome(4, 0))],
)
def test_what_a_killed_writer_left_behind_is_removed(study_folder, stage, settings_of_pruning, outcome):
    settings = config(study_folder, prune=settings_of_pruning)
    product = products(settings, stage)[0]
    states = state_files(study_of(settings), product)
    left = [path.with_name(f".{path.name}.abc123.part") for path in (*product.outputs, *states)]
    assert len(left) == 3
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half a file")
    other = product.outputs[0].with_name(".notes.part")
    other.write_text("mine")
    product.outputs[0].unlink()
    assert run(settings, stage) == outcome
    assert not any(path.exists() for path in left) and other.exists()
