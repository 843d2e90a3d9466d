"""Only preempted SLURM jobs are requeued; `cluster/test_slurm.py` has the real SLURM."""

from pathlib import Path

import pytest

from three_regime.errors import Interrupted
from three_regime.system.preemption import requeued_if_preempted

PREEMPTED = {"JobState": "RUNNING", "Requeue": "1", "PreemptTime": "2026-11-23T01:08:19"}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-in for scontrol that prints ``answer`` and records its arguments in ``asked``."""
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\necho \"$*\" >> '{tmp_path}/asked'\ncat '{tmp_path}/answer'\n")
    program.chmod(0o755)
    (tmp_path / "asked").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "asked"


def interrupt(asked: Path, **fields: str) -> str:
    """Return the last arguments of scontrol after an interruption."""
    job = {"JobId": "17", "JobName": "a=b c", **PREEMPTED, **fields}
    (asked.parent / "answer").write_text(" ".join(f"{key}={value}" for key, value in job.items()) + "\n")
    with pytest.raises(Interrupted, match="received SIGTERM"), requeued_if_preempted():
        raise Interrupted("received SIGTERM")
    return asked.read_text().splitlines()[-1]


def test_a_preempted_job_is_requeued(asked: Path) -> None:
    assert interrupt(asked) == "requeue 17"


def test_of_an_array_the_task_alone_is_requeued(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of one task, here 17, is that of the array too: SLURM would requeue them all."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert interrupt(asked) == "requeue 17_3"
    assert asked.read_text().splitlines()[0] == "--oneliner show job 17_3"


@pytest.mark.parametrize(
    "fields",
    [{"PreemptTime": "None"}, {"PreemptTime": "N/A"}, {"JobState": "COMPLETING"}, {"JobState": "CANCELLED"},
     {"JobState": "PENDING"}, {"Requeue": "0"}],
)  # fmt: skip
def test_a_job_that_ends_otherwise_is_left_alone(asked: Path, fields: dict[str, str]) -> None:
    assert interrupt(asked, **fields) == "--oneliner show job 17"


def test_nobody_is_asked_without_slurm_or_interruption(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with requeued_if_preempted():
        pass
    monkeypatch.delenv("SLURM_JOB_ID")
    with pytest.raises(Interrupted), requeued_if_preempted():
        raise Interrupted("received SIGTERM")
    assert asked.read_text() == ""


@pytest.mark.parametrize("broken", ["absent", "failing"])
def test_without_an_answer_the_interruption_stays_what_it_is(
    asked: Path, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if broken == "absent":
        monkeypatch.setenv("PATH", "")
    else:
        (asked.parent / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Interrupted, match="received SIGTERM"), requeued_if_preempted():
        raise Interrupted("received SIGTERM")
    assert "job 17 could not be requeued in SLURM" in caplog.text
