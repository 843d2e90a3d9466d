"""A job: its lock and its device."""

from __future__ import annotations

import pytest
from tiny_study import config, study_of

from three_regime.jobs.job import lock_file, state_file
from three_regime.study.grid import wants_gpu
from three_regime.study.products import pack


def test_one_dense_run_has_one_lock(tmp_path):
    """However its job is started: for one temperature or for all, it trains from the same state."""
    study = study_of(config(tmp_path))
    assert lock_file(study, "dense", 1, 1.0, None) == lock_file(study, "dense", 1, None, None)
    assert len({state_file(study, product) for product in pack(study, "dense", 1)}) == 1
    several = study_of(config(tmp_path, knob="batch_size", temperatures=[32]))
    assert lock_file(several, "dense", 1, 32, None).parent.name == "batch032"
    assert lock_file(study, "prune", 1, 1.0, None).parent.name == "epochs001"


@pytest.mark.parametrize(("criterion", "uses"), [("magnitude", False), ("gradient_magnitude", True)])
def test_pruning_uses_a_requested_gpu_only_for_gradients(tmp_path, criterion, uses):
    pruning = {"prune": {"criterion": criterion}}
    asked = config(tmp_path, top={"device": "auto"}, resources={"prune": {"gpu": 1}}, **pruning)
    assert wants_gpu(asked, study_of(asked), "prune") == uses
    usual = config(tmp_path, top={"device": "auto"}, **pruning)
    assert not wants_gpu(usual, study_of(usual), "prune")
