"""Named random streams.

Every random number comes from a stream named by its purpose, e.g. ``("retrain", 1, 2, "order", 17)`` for the image
order in epoch 17 of replica 2 on dense seed 1. A stream depends only on its name: adding a stage, a density or a
temperature changes no other stream, and a replica sees the same order at every density (as in the authors' code,
which, unlike this project, also shares it over dense seeds).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Streams:
    """The streams below one name, e.g. ``Streams(("retrain", 1, 2))``."""

    name: tuple[str | int, ...]

    def generator(self, *name: str | int) -> np.random.Generator:
        """A generator at the start of the stream `self.name + name` (Philox, keyed by SHA-256 of the name)."""
        text = "/".join(f"{type(part).__name__}:{part}" for part in (*self.name, *name))
        key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key))
