"""Times of results in the order that Snakemake takes for up to date."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from three_regime.system.file_times import put_in_order

NOW = time.time()


@pytest.mark.parametrize(
    ("inputs", "output", "changed"),
    [
        ([NOW - 50, NOW - 20], NOW - 10, 0),
        ([NOW - 50, NOW - 20], NOW - 20, 0),
        ([NOW - 50, NOW - 20], NOW - 30, 1),
        ([NOW - 50, NOW + 1e6], NOW - 30, 1),
        ([NOW - 50], NOW + 1e6, 1),
        ([], NOW + 1e6, 1),
    ],
)
def test_outputs_are_as_young_as_inputs_none_of_the_future(tmp_path: Path, inputs, output, changed) -> None:
    read = [tmp_path / f"in{number}" for number in range(len(inputs))]
    out = tmp_path / "out"
    for path, when in zip([*read, out], [*inputs, output], strict=True):
        path.touch()
        os.utime(path, (when, when))
    assert put_in_order([*read, tmp_path / "absent"], [out, tmp_path / "gone"]) == changed
    newest = max((path.stat().st_mtime_ns for path in read), default=10**15)
    assert newest <= out.stat().st_mtime_ns <= time.time_ns()
    assert put_in_order(read, [out]) == 0
