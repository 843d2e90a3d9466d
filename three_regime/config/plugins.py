"""Plugins: user modules that register a data set, model, knob, criterion or measure without changing this package.

A configuration lists them (``plugins: [stripes.py, my_lab.networks]``); alternatively, an installed package declares an
entry point in the group ``three_regime``. Each is imported before the configuration is validated, in every process that
reads it, and calls `three_regime.datasets.registry.register`, `three_regime.models.families.register`,
`three_regime.config.knobs.register`, `three_regime.pruning.criteria.register` or
`three_regime.config.measures.register`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from three_regime.errors import UserError
from three_regime.system.places import CHECKOUT, expanded

GROUP = "three_regime"
"""Group of entry points that are imported; their names are informative only."""


def load(names: Iterable[str]) -> None:
    """Import plugins, each once per process.

    Parameters
    ----------
    names
        Files (``….py``, searched in the working directory, then in the checkout) and names of importable modules.

    Raises
    ------
    UserError
        When a plugin cannot be imported; the message names it and the error.
    """
    _load_entry_points()
    for name in names:
        try:
            _load_file(name) if name.endswith(".py") else importlib.import_module(name)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"plugins: {name} cannot be imported: {type(error).__name__}: {error}") from error
        _loaded.add(_module(name))


_loaded: set[str] = set()


def files(names: Iterable[str]) -> list[Path]:
    """The plugins among `names` that are files, where they exist; not those of installed packages."""
    return [path for name in names if name.endswith(".py") and (path := _file(name)).is_file()]


def is_loaded(name: str) -> bool:
    """Whether `load` has imported a plugin of this name in this process, from wherever."""
    return _module(name) in _loaded


def _module(name: str) -> str:
    return Path(name).stem if name.endswith(".py") else name


@functools.cache
def _load_entry_points() -> None:
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            what = f"the entry point {point.name} of an installed package ({point.value})"
            raise UserError(f"plugins: {what} cannot be imported: {type(error).__name__}: {error}") from error


def _file(name: str) -> Path:
    path = expanded(name)
    return path if path.is_file() or path.is_absolute() else CHECKOUT / path


def _load_file(name: str) -> None:
    """Import a file under its stem, so ``module:function`` in a registered entry can refer to it."""
    path = _file(name)
    if not path.is_file():
        raise UserError(f"plugins: {name} does not exist, neither here nor in {CHECKOUT}")
    module_name = _module(name)
    known = sys.modules.get(module_name)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == path.resolve():
            return
        raise UserError(f"plugins: {name} has the name of another module, {module_name}; rename the file")
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
