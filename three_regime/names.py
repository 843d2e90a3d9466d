"""Look up names that a user wrote, and suggest the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def registered(name: str, registry: Iterable[str], kind: str) -> str:
    """Return `name` if it is in `registry`; else raise ``ValueError`` with the nearest and all allowed names."""
    names = sorted(registry)
    if name in names:
        return name
    raise ValueError(f"unknown {kind} '{name}'{nearest(name, names)}; allowed: {', '.join(names)}")


def nearest(name: str, allowed: Iterable[str], similarity: float = 0.5) -> str:
    """``"; did you mean 'x'?"`` for the closest allowed name, or an empty string if none is this similar (0 to 1)."""
    match = difflib.get_close_matches(name, list(allowed), n=1, cutoff=similarity)
    return f"; did you mean '{match[0]}'?" if match else ""
