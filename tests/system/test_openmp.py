"""OpenMP wait policy, set before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from checkout import ROOT

CODE = "from three_regime.system.openmp import spin_briefly; spin_briefly(); import torch"


@pytest.mark.parametrize(("given", "expected"), [(None, "1000"), ("77", "77")])
def test_openmp_is_told_unless_the_user_has_said_it(given: str | None, expected: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | ({"GOMP_SPINCOUNT": given} if given else {})
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if "GOMP" not in done.stderr:
        pytest.skip("torch's OpenMP is not GNU's")
    assert f"GOMP_SPINCOUNT = '{expected}'" in done.stderr


def test_every_command_says_it() -> None:
    code = "from three_regime.cli import main; main(['list'], standalone_mode=False); import os; print(*os.environ)"
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "GOMP_SPINCOUNT" in done.stdout.split(), done.stderr


def test_jobs_say_it_before_torch_is_imported() -> None:
    """`three_regime.jobs.job` itself must not import torch, or the setting comes too late."""
    code = "import three_regime.jobs.run, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
