"""Plugins: user modules that register a data set, model, knob, criterion or measure without changing this package.

A configuration lists them (``plugins: [stripes.py, my_lab.networks]``); alternatively, an installed package declares an
entry point in the group ``three_regime``. Each is imported before the configuration is validated, in every process that
reads it, and calls `three_regime.datasets.registry.register`, `three_regime.models.families.register`,
`three_regime.config.knobs.register`, `three_regime.pruning.criteria.register` or
`three_regime.config.measures.register`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from three_regime.errors import UserError
from three_regime.system.places import CHECKOUT, expanded
from three_regime.system.yaml_files import Place, Written

GROUP = "three_regime"
"""Group of entry points that are imported; their names are informative only."""


class _Unusable(Exception):
    """A file cannot be a plugin; the message is a clause with the reason."""


def load(names: Iterable[str], origins: Mapping[Place, Written] | None = None) -> None:
    """Import plugins, each once per process.

    Parameters
    ----------
    names
        Files (``….py``, searched in the working directory, then in the checkout) and names of importable modules.
    origins
        Where the values of the configuration were written, if known, for messages.

    Raises
    ------
    UserError
        When a plugin cannot be imported; the message names it, the error, and the line that lists it.
    """
    _load_entry_points()
    for number, name in enumerate(names):
        with _explained(name, (origins or {}).get(("plugins", number))):
            _load_file(name) if name.endswith(".py") else importlib.import_module(name)
        _loaded.add(_module(name))


@contextlib.contextmanager
def _explained(name: str, written: Written | None) -> Iterator[None]:
    """Turn every error into a `UserError` that names the plugin and where it is listed."""
    where = f" ({written})" if written else ""
    try:
        yield
    except _Unusable as error:
        raise UserError(f"plugins: {name} {error}{where}") from error
    except UserError as error:
        raise UserError(f"plugins: {name}: {error}{where}") from error
    except Exception as error:
        raise UserError(f"plugins: {name} cannot be imported: {type(error).__name__}: {error}{where}") from error


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


def _installed(module_name: str, path: Path) -> str:
    """Where a module of this name, not yet imported, is installed; empty if nowhere.

    Files in the working folder and in the checkout's folders on the import path are not installed modules, and folders
    without ``__init__.py`` (as `results` may be one) have no origin.
    """
    spec = importlib.util.find_spec(module_name) if "." not in module_name else None
    if spec is None or spec.origin is None or spec.loader is None:
        return ""
    folder = Path(spec.origin).resolve().parent
    ours = (
        folder in (Path.cwd().resolve(), CHECKOUT, CHECKOUT / "scripts")
        or Path(spec.origin).resolve() == path.resolve()
    )
    return "" if ours else spec.origin


def _load_file(name: str) -> None:
    """Import a file under its stem, so ``module:function`` in a registered entry can refer to it."""
    path = _file(name)
    if not path.is_file():
        raise _Unusable(f"does not exist, neither here nor in {CHECKOUT}")
    module_name = _module(name)
    known = sys.modules.get(module_name)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == path.resolve():
            return
        raise _Unusable(f"has the name of another module, {module_name}; rename the file")
    if other := _installed(module_name, path):
        raise _Unusable(
            f"has the name of an installed module, {module_name} ({other}), and would hide it; rename the file"
        )
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
