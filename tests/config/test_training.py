"""Settings of a training."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from three_regime.config import Training


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"dropout": -0.5}, "dropout"),
        (
            {"epochs": None, "iterations": 9, "schedule": "linear", "milestones": [], "warmup": 9},
            "warmup 9 must be less",
        ),
    ],
)
def test_a_training_that_cannot_be_is_refused(training, message):
    with pytest.raises(ValidationError, match=message):
        Training.model_validate({"epochs": 4, "batch_size": 2, "milestones": (2,), **training})


@pytest.mark.parametrize(
    ("changes", "plain"),
    [({}, True), ({"sam_rho": 0.1}, False), ({"optimiser": "adam"}, False), ({"clip_norm": 1.0}, False)],
)
def test_plain_sgd_is_what_the_engine_does(changes, plain):
    assert Training.model_validate({"epochs": 4, "batch_size": 2, "milestones": (2,), **changes}).plain_sgd == plain
