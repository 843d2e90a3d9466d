"""Registries: mappings from names to entries that plugins can extend."""

from __future__ import annotations

import importlib
from collections.abc import Callable
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


def function(reference: str, entry: str) -> Callable[..., Any]:
    """Import the function that an entry states as ``module:function``.

    Raises
    ------
    UserError
        When it cannot be imported; `entry` is named in the message.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (AttributeError, ImportError) as error:
        raise UserError(f"{entry}: {reference} cannot be imported: {error}") from error
