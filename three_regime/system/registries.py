"""Registries: mappings from names to entries that plugins can extend."""

from __future__ import annotations

from typing import Any

from three_regime.errors import UserError


def add(registry: dict[str, Any], entry: Any, kind: str) -> None:
    """Add an entry under its ``name``; adding the same entry twice is allowed.

    Raises
    ------
    UserError
        When another entry has this name; `kind` is the kind of entry in the message.
    """
    if registry.setdefault(entry.name, entry) != entry:
        raise UserError(f"a {kind} named {entry.name} exists already")
