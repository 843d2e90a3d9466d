"""Dense training: which interrupted runs may be continued."""

from __future__ import annotations

import pytest
from tiny_study import config, study_of

from three_regime.jobs.dense import _run_key
from three_regime.study.products import pack

PER_TEMPERATURE = {"knob": "batch_size", "temperatures": [32]}


def key_of(folder, schedule: str, epochs: int, **changes) -> str:
    dense = {"schedule": schedule, "milestones": [], "epochs": epochs}
    study = study_of(config(folder, dense=dense, **changes))
    return _run_key(study, pack(study, "dense", 1, study.temperatures[0])[0])


@pytest.mark.parametrize("changes", [PER_TEMPERATURE, {}])
@pytest.mark.parametrize(("schedule", "continued"), [("step", True), ("cosine", False), ("linear", False)])
def test_an_annealed_run_is_not_continued_at_another_length(tmp_path, changes, schedule, continued):
    """Its learning rate in every epoch depends on the length."""
    shorter, longer = (key_of(tmp_path, schedule, epochs, **changes) for epochs in (4, 5))
    assert (shorter == longer) == continued
