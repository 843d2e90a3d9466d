"""GPU out of memory outside the training step: retry with one network at a time, or one sentence, never a traceback."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_study import config, digests, files, run, study_of

from three_regime.errors import UserError
from three_regime.jobs.run import Outcome
from three_regime.study.products import pack
from three_regime.system import gpu_memory
from three_regime.tasks.images.stacked import ImageStack
from three_regime.tasks.images.task import ImageClassification
from three_regime.tasks.strategies import Alone, choose

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 10.00 GiB. And more."


def full(monkeypatch: pytest.MonkeyPatch, where: type, name: str, times: range = range(1)) -> list[int]:
    """Make these calls of a method run out of memory; return the list of calls."""
    sound, calls = getattr(where, name), []

    def failing(*arguments: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if calls[-1] in times:
            raise torch.cuda.OutOfMemoryError(FULL)
        return sound(*arguments, **options)

    monkeypatch.setattr(where, name, failing)
    return calls


def test_timing_goes_one_by_one_where_several_do_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    class Large:
        """A task, as far as `choose` looks, whose networks do not fit side by side."""

        device = torch.device("cuda")

        def stack(self, choice: str) -> Alone:
            stack = Alone(self)
            stack.together = True
            return stack

    def seconds(stack: Alone) -> float:
        if stack.together:
            raise torch.cuda.OutOfMemoryError(FULL)
        return 1.0

    chosen = choose(Large(), "auto", seconds)
    assert isinstance(chosen, Alone) and not chosen.together
    assert (
        "not enough GPU memory for several networks at once (CUDA out of memory. Tried to allocate 2.00 GiB)"
        in caplog.text
    )


@pytest.mark.parametrize(("calls", "together"), [(0, [0, 0, 2, 2]), (5, [2, 0, 2, 2])])
def test_lmc_goes_on_with_one_network_after_another(study_folder, monkeypatch, caplog, calls, together):
    """What was written before stays, and the numbers are those of networks computed alone."""
    caplog.set_level(logging.INFO)
    alone = config(study_folder, lockstep="off")
    for path in files(alone, "lmc"):
        path.unlink()
    run(alone, "lmc")
    expected = [values(path) for path in files(alone, "lmc")]
    settings = config(study_folder, lockstep=2)
    for path in files(settings, "lmc"):
        path.unlink()
    full(monkeypatch, ImageStack, "evaluate", range(calls, calls + 1))
    caplog.clear()
    assert run(settings, "lmc") == Outcome(4, 0)
    assert caplog.text.count("one after another") == 1, "the other job, of the other temperature, had enough"
    assert [json.loads(path.read_text())["provenance"]["together"] for path in files(settings, "lmc")] == together
    found = [values(path) for path in files(settings, "lmc")]
    for line, other in zip(found, expected, strict=True):
        assert line["test_nll"] == pytest.approx(other["test_nll"], rel=1e-4)
        assert line["lmc"] == pytest.approx(other["lmc"], abs=0.02)


def values(path: Path) -> dict[str, Any]:
    """A result without its provenance."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "provenance"}


@pytest.mark.parametrize(
    ("stage", "where", "method", "lockstep"),
    [
        ("dense", ImageStack, "evaluate", 32),
        ("retrain", ImageClassification, "evaluate", 32),
        ("lmc", ImageClassification, "reestimate", "off"),
        ("cka", ImageClassification, "outputs", 32),
    ],
)
def test_out_of_memory_in_a_measurement_is_one_sentence(study_folder, monkeypatch, stage, where, method, lockstep):
    # Measured as on a GPU: without the compiled kernels of a CPU, with which the dense run's state goes on.
    kernels = "plain" if stage in ("lmc", "cka") else "auto"
    settings = config(study_folder, lockstep=lockstep, top={"kernels": kernels})
    for path in files(settings, stage):
        path.unlink()
    run(settings, stage)
    expected = digests(settings, stage) if stage in ("dense", "retrain") else [*map(values, files(settings, stage))]
    for path in files(settings, stage):
        path.unlink()
    full(monkeypatch, where, method)
    with pytest.raises(UserError, match=rf"{stage} tiny seed1.*: the GPU ran out of memory \(CUDA out of memory\. Tried"
                                        r" to allocate 2\.00 GiB\);.*`gpu_slots: 1`, `lockstep: off`"):  # fmt: skip
        run(settings, stage)
    run(settings, stage)
    assert all(product.done for product in pack(study_of(settings), stage, 1, 1))
    found = digests(settings, stage) if stage in ("dense", "retrain") else [*map(values, files(settings, stage))]
    assert found == expected


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), gpu_memory.refused("cka", "or not"):
        raise RuntimeError("shapes do not agree")
