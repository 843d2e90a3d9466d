"""The sparse engine in the trainer: the usual numbers, stopped and continued, alone and in packs, and as recorded."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from digits_task import digits_task
from tiny_study import config, products, run_to, study_of
from toy_task import Delivered, StopAfter, assert_same, member, session, settings, train

from three_regime import kernels
from three_regime.errors import Interrupted, UserError
from three_regime.kernels.graph import Graph
from three_regime.landscape import mode_connectivity
from three_regime.pruning.magnitude import magnitude_masks
from three_regime.pruning.masks import apply_masks, split_masks
from three_regime.random_streams import Streams
from three_regime.system.files import read_arrays, read_json
from three_regime.tasks import strategies
from three_regime.tasks.images.task import ImageClassification, of_study
from three_regime.training import saved_state
from three_regime.training.trainer import train_pack

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> ImageClassification:
    return digits_task("preresnet-8x0.5")


@pytest.fixture(scope="module")
def narrow() -> ImageClassification:
    """So few channels that the engine is faster for the dense network, too."""
    return digits_task("preresnet-8x0.25")


def pruned(task: ImageClassification, density: float = 0.3, **changes) -> dict:
    """Return the masks and initial weights of a retraining member."""
    dense = task.initial_weights(Streams(("dense", 1)))
    masks = magnitude_masks(dense, task.prunable, density, "uniform")
    return {"start": apply_masks(dense, masks), "masks": masks, **changes}


def dense(task: ImageClassification) -> dict:
    """What a member of dense training has."""
    return {"start": task.initial_weights(Streams(("dense", 1))), "masks": {}}


SGD = {"epochs": 2, "milestones": (1,), "batch_size": 21}
RUNS = pytest.mark.parametrize(("task", "given"), [("images", pruned), ("narrow", dense)])


@RUNS
def test_training_with_it_is_the_usual_one_within_rounding(library, tmp_path, request, task, given):
    """Weights, history and removed weights; a first epoch, for rounding grows; batches of 21 and the last of 16."""
    task, once = request.getfixturevalue(task), settings(epochs=1, milestones=(), batch_size=21)
    usual = train(task, tmp_path / "usual", once, session(lockstep="off"), **given(task))[1]
    kernels.allow("auto")
    found = train(task, tmp_path / "found", once, session(lockstep="off"), **given(task))[1]
    assert (usual.computed_with, found.computed_with) == (None, "sparse")
    for name, array in found.weights.items():
        np.testing.assert_allclose(array, usual.weights[name], rtol=1e-2, atol=1e-3, err_msg=name)
    for name, mask in given(task)["masks"].items():
        assert (found.weights[name][~mask] == 0).all()
    for key, value in usual.history[0].items():
        assert found.history[0][key] == pytest.approx(value, rel=1e-3), key


@RUNS
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_stopped_and_continued_it_ends_with_the_same_bits(library, tmp_path, request, stop, task, given):
    kernels.allow("auto")
    task, training = request.getfixturevalue(task), settings(**SGD)
    given = given(task)
    whole = train(task, tmp_path / "whole", training, session(lockstep="off"), **given)[2]
    with pytest.raises(Interrupted):
        train(task, tmp_path / "state", training, session(lockstep="off", stop=StopAfter(stop)), **given)
    assert saved_state.written_with(tmp_path / "state", "key") == "sparse"
    assert_same(train(task, tmp_path / "state", training, session(lockstep="off"), **given)[2], whole)


def test_pack_mates_do_not_change_it(library, tmp_path, images):
    kernels.allow("auto")
    training, delivered = settings(**SGD), [Delivered(), Delivered()]
    given = [pruned(images, density) for density in (0.1, 0.5)]
    pack = [member(images, tmp_path / str(k), delivered[k], label=str(k), **given[k]) for k in range(2)]
    train_pack(images, training, pack, session(lockstep="off"))
    for k in range(2):
        alone = train(images, tmp_path / "alone", training, session(lockstep="off"), **given[k])[2]
        assert_same(alone, delivered[k][2])


def test_a_pack_by_the_engine_advances_one_by_one(library, tmp_path, narrow, monkeypatch):
    """`auto` prefers the engine to lock-step, for the whole pack or not at all; what lock-step began it ends."""
    kernels.allow("auto")
    training = settings(**SGD)

    def run(name, stop=None):
        delivered = [Delivered(), Delivered()]
        pack = [
            member(narrow, tmp_path / f"{name}{k}", delivered[k], label=str(k), **pruned(narrow, density))
            for k, density in enumerate((0.1, 0.5))
        ]
        train_pack(narrow, training, pack, session(stop=stop))
        return [each[2] for each in delivered]

    assert [(each.computed_with, each.together) for each in run("engine")] == [("sparse", 0)] * 2
    with monkeypatch.context() as before:
        before.setattr(ImageClassification, "sparse", lambda task, masks, only=None: None)
        whole = run("whole")
        with pytest.raises(Interrupted):
            run("begun", StopAfter(4))
    assert [(each.computed_with, each.together) for each in whole] == [("plain", 2)] * 2
    for mine, expected in zip(run("begun"), whole, strict=True):
        assert_same(mine, expected)


@pytest.mark.parametrize(
    "other", [{"sam_rho": 0.1}, {"optimiser": "adam", "learning_rate": 0.01}, {"clip_norm": 0.1}, {"dense": True}]
)
def test_what_it_does_not_do_is_done_as_before(library, tmp_path, images, other):
    """Other steps, and weights that are not 0 where a mask says so."""
    kernels.allow("auto")
    other, given = dict(other), pruned(images)
    if other.pop("dense", False):
        given["start"] = images.initial_weights(Streams(("dense", 1)))
    training = settings(epochs=1, milestones=(), batch_size=32, **other)
    found = train(images, tmp_path / "state", training, session(lockstep="off"), **given)[1]
    assert found.computed_with is None


def test_a_run_goes_on_with_what_it_was_begun_with(library, tmp_path, images, monkeypatch):
    """One that an earlier version began with the other kernels ends with their bits; one of this engine is refused
    where it cannot be run."""
    kernels.allow("auto")
    training, given = settings(**SGD), pruned(images)
    with monkeypatch.context() as before:
        before.setattr(ImageClassification, "sparse", lambda task, masks, only=None: None)
        whole = train(images, tmp_path / "whole", training, session(lockstep="off"), **given)[2]
        with pytest.raises(Interrupted):
            train(images, tmp_path / "state", training, session(lockstep="off", stop=StopAfter(4)), **given)
    assert_same(train(images, tmp_path / "state", training, session(lockstep="off"), **given)[2], whole)
    with pytest.raises(Interrupted):
        train(images, tmp_path / "new", training, session(lockstep="off", stop=StopAfter(4)), **given)
    kernels.allow("plain")
    with pytest.raises(UserError, match="sparse kernels and this run has plain ones"):
        train(images, tmp_path / "new", training, session(lockstep="off"), **given)


def test_winograds_way_is_recorded_and_continued(library, tmp_path, images, monkeypatch):
    """Layers that keep much; a run that was begun without it ends without it, to the same bits."""
    kernels.allow("auto")
    training, given = settings(**SGD), pruned(images, 0.6)
    whole = train(images, tmp_path / "whole", training, session(lockstep="off"), **given)[2]
    with monkeypatch.context() as before:
        before.setattr(Graph, "winograd", lambda graph, masks: frozenset())
        lists = train(images, tmp_path / "lists", training, session(lockstep="off"), **given)[2]
        with pytest.raises(Interrupted):
            train(images, tmp_path / "before", training, session(lockstep="off", stop=StopAfter(4)), **given)
    assert (whole.computed_with, lists.computed_with) == ("sparse-winograd", "sparse")
    with pytest.raises(Interrupted):
        train(images, tmp_path / "state", training, session(lockstep="off", stop=StopAfter(4)), **given)
    assert_same(train(images, tmp_path / "state", training, session(lockstep="off"), **given)[2], whole)
    assert_same(train(images, tmp_path / "before", training, session(lockstep="off"), **given)[2], lists)


# -- measuring


def test_a_line_and_outputs_equal_the_usual_ones(library, images):
    """Points between two networks of one mask: re-estimated statistics, errors, losses and outputs; odd batches."""
    kernels.allow("auto")
    dense, given = images.initial_weights(Streams(("dense", 2))), pruned(images)
    ends = [images.load(apply_masks(each, given["masks"]), "drawn") for each in (given["start"], dense)]
    network = strategies.sparse_network(images, given["masks"], ends)
    points = [ends[0], mode_connectivity.between(images, *ends, 0.3), ends[1]]
    usual = list(mode_connectivity.measure(strategies.Alone(images), points, 21, 90))
    found = list(mode_connectivity.measure(strategies.AloneSparse(images, network), points, 21, 90))
    for mine, theirs in zip(found, usual, strict=True):
        assert mine.train.nll == pytest.approx(theirs.train.nll, rel=1e-4)
        assert mine.test.nll == pytest.approx(theirs.test.nll, rel=1e-4)
        assert abs(mine.train.error - theirs.train.error) < 0.02
    for name, values in network.outputs(ends[0], 70):
        np.testing.assert_allclose(values, dict(images.outputs(ends[0], 70))[name], rtol=1e-4, atol=1e-4)
    again = list(mode_connectivity.measure(strategies.AloneSparse(images, network), points, 21, 90))
    assert again == found


def test_weights_that_are_not_zero_are_measured_as_before(library, images):
    kernels.allow("auto")
    given = pruned(images)
    assert strategies.sparse_network(images, given["masks"], [given["start"]]) is not None
    assert strategies.sparse_network(images, given["masks"], [images.initial_weights(Streams(("dense", 1)))]) is None


def test_a_study_says_what_computed_it(library, tmp_path):
    """Dense training, retraining, LMC and CKA of one cell, through the jobs."""
    about = {"lockstep": "off", "model": "preresnet-8x0.25", "temperatures": [1], "densities": [0.3]}
    study = config(tmp_path, top={"kernels": "auto"}, **about)
    run_to(study, "cka")
    found = {stage: {read_json(product.outputs[0])["provenance"]["kernels"] for product in products(study, stage)}
             for stage in ("dense", "retrain", "lmc", "cka")}  # fmt: skip
    assert found == {"dense": {"sparse"}, "retrain": {"sparse"}, "lmc": {"sparse"}, "cka": {"sparse"}}


def test_a_study_in_lock_step_says_that_torch_computed_it(library, tmp_path):
    """As measured before, too: final metrics are those of the task, not of the engine."""
    about = {"lockstep": 2, "model": "preresnet-8x0.25", "temperatures": [1], "densities": [0.3]}
    study = config(tmp_path, top={"kernels": "auto"}, **about)
    run_to(study, "lmc")
    records = {stage: [read_json(product.outputs[0]) for product in products(study, stage)]
               for stage in ("dense", "retrain", "lmc")}  # fmt: skip
    assert {each["provenance"]["kernels"] for found in records.values() for each in found} == {"plain"}
    task = of_study(study_of(study), "cpu")
    for product, record in zip(products(study, "retrain"), records["retrain"], strict=True):
        weights = task.load(split_masks(read_arrays(product.outputs[1]))[0], "")
        assert record["train"] == asdict(task.evaluate(weights, "train"))
