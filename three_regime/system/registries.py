"""Registries: mappings from a name to an entry, to which plugins add."""

from __future__ import annotations

from typing import Any

from three_regime.errors import UserError


def add(registry: dict[str, Any], entry: Any, kind: str) -> None:
    """Add an entry under its ``name``; the same entry twice is no fault.

    Raises
    ------
    UserError
        When another entry has its name. `kind` says of what.
    """
    if registry.setdefault(entry.name, entry) != entry:
        raise UserError(f"there is a {kind} called {entry.name} already")
