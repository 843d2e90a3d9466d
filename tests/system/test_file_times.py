"""Modification times in the order that Snakemake accepts as up to date."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from three_regime.system.file_times import put_in_order


@pytest.mark.parametrize(
    ("inputs", "output", "changed"),
    [
        ([-50, -20], -10, 0),
        ([-50, -20], -20, 0),
        ([-50, -20], -30, 1),
        ([-50, 1e6], -30, 1),
        ([-50], 1e6, 1),
        ([], 1e6, 1),
    ],
)
def test_outputs_are_as_young_as_inputs_none_of_the_future(tmp_path: Path, inputs, output, changed) -> None:
    """Times are seconds from now."""
    now = time.time()
    read = [tmp_path / f"in{number}" for number in range(len(inputs))]
    out = tmp_path / "out"
    for path, when in zip([*read, out], [*inputs, output], strict=True):
        path.touch()
        os.utime(path, (now + when, now + when))
    assert put_in_order([*read, tmp_path / "absent"], [out, tmp_path / "gone"]) == changed
    newest = max((path.stat().st_mtime_ns for path in read), default=10**15)
    assert newest <= out.stat().st_mtime_ns <= time.time_ns()
    assert put_in_order(read, [out]) == 0
