"""Memory freed by a step is reused by the next."""

from __future__ import annotations

import subprocess
import sys

import pytest
from checkout import ROOT

CODE = """
import resource, sys
import numpy as np
from three_regime.system.cpu_memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)

def step():
    layers = [np.ones(2**17) for _ in range(60)]  # 1 MiB each

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(5):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


def _page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, mode], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("the C library of this Python is not glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_kept_memory_is_not_mapped_again_at_every_step() -> None:
    assert _page_faults("keep") < 1000 < _page_faults("default")
