"""Import modules by their former paths, for external scripts.

An import by a former path returns the module at its current path, with a `DeprecationWarning` that names it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

FORMER_PLACES = {
    "bleu": "tasks.translation.bleu",
    "claims": "analysis.claims",
    "connectivity": "landscape.mode_connectivity",
    "datasets.archives": "system.archives",
    "datasets.cleaning": "preparation.cleaning",
    "datasets.download": "preparation.download",
    "datasets.prepare": "preparation.prepare",
    "datasets.prepare_text": "preparation.parallel_text",
    "datasets.prepared_text": "preparation.prepared_text",
    "datasets.subwords": "preparation.subwords",
    "datasets.transfer": "preparation.transfer",
    "decoding": "tasks.translation.beam_search",
    "export": "exchange.export",
    "foreign": "exchange.checkpoint_files",
    "importing": "exchange.importing",
    "knobs": "config.knobs",
    "manifest": "system.manifest",
    "markdown": "system.markdown",
    "provenance": "study.provenance",
    "redraw": "exchange.redraw",
    "regimes": "analysis.regimes",
    "results": "study.results",
    "scorecard": "analysis.scorecard",
    "similarity": "landscape.linear_cka",
    "sparse": "system.sparse_encoding",
    "storage": "system.files",
    "streams": "random_streams",
    "tables": "analysis.tables",
    "yaml_files": "system.yaml_files",
}
"""Former path → current path, both relative to the package."""

_PACKAGE = __name__.partition(".")[0]


class _FormerPlaces(MetaPathFinder, Loader):
    """Find a module by its former path; both names refer to the same module object."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, former = fullname.partition(".")
        return spec_from_loader(fullname, self) if package == _PACKAGE and former in FORMER_PLACES else None

    def exec_module(self, module: ModuleType) -> None:
        present = f"{_PACKAGE}.{FORMER_PLACES[module.__name__.partition('.')[2]]}"
        warnings.warn(f"{module.__name__} is {present} now", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(present)


def install() -> None:
    """Enable imports by former paths, after all other finders have failed."""
    if not any(isinstance(finder, _FormerPlaces) for finder in sys.meta_path):
        sys.meta_path.append(_FormerPlaces())
