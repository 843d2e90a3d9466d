"""Load and validate a configuration from YAML files, for both Snakefile and command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from three_regime.config import plugins
from three_regime.config.complaints import sentences
from three_regime.config.whole import Config
from three_regime.errors import UserError
from three_regime.system import places
from three_regime.system.yaml_files import Place, Written, read_mapping

FROZEN = "frozen"
"""Key beside the settings in the configuration file of one run (`three_regime.study.runs`)."""


@dataclass(frozen=True)
class Merged:
    """Merged configuration files: their values, and where each was written."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, Written] = field(default_factory=dict)

    def under(self, values: Mapping[str, Any], origins: Mapping[Place, Written] | None = None) -> Merged:
        """Merge `values` over these; `origins` says where they were written (None: not in a file, as ``--config``)."""
        replaced = set(_leaves(values))
        kept = {
            place: written
            for place, written in self.origins.items()
            if not any(place[:end] in replaced for end in range(1, len(place) + 1))
        }
        return Merged(merge(self.values, values), {**kept, **(origins or {})})


def resolve(mapping: Mapping[str, Any], origins: Mapping[Place, Written] | None = None) -> Config:
    """Import the plugins, validate a merged mapping and fill in defaults.

    The key `FROZEN`, written by runs, is ignored.

    Parameters
    ----------
    origins
        Where values were written, if known, for messages.

    Raises
    ------
    UserError
        One line per error: the key, the error, the nearest valid key or value, and where it is written.
    """
    named = mapping.get("plugins") or ()
    if isinstance(named, (list, tuple)) and all(isinstance(name, str) for name in named):  # else reported below
        plugins.load(named, origins)
    try:
        return Config.model_validate({key: value for key, value in mapping.items() if key != FROZEN})
    except ValidationError as error:
        raise UserError("\n".join(sentences(error.errors(), origins or {}))) from error


def read(paths: Iterable[Path]) -> Merged:
    """Read YAML files and merge later ones over earlier ones as Snakemake does (`merge`)."""
    merged = Merged()
    for path in paths:
        found = read_mapping(places.expanded(path))
        merged = merged.under(found.values, found.origins)
    return merged


def load(paths: Iterable[Path]) -> Config:
    """Load a configuration: read YAML files, merge later ones over earlier ones, and `settle` the result.

    Mappings are merged key by key, everything else is replaced.
    """
    return settle(read(paths))


def settle(merged: Merged) -> Config:
    """`resolve` merged files, and check their folders (`places.check`)."""
    config = resolve(merged.values, merged.origins)
    places.check(config.results, config.data.folder)
    return config


def schema_text() -> str:
    """The JSON schema (draft 2020-12) of the configuration, as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _leaves(values: Mapping[str, Any], place: Place = ()) -> Iterator[Place]:
    """Places of all values that are not mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*place, key))
        else:
            yield (*place, key)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `overlay` over `base`: mappings recursively, other values replaced, like Snakemake's `update_config`.

    As there, an empty mapping replaces nothing.
    """
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key, {})
        if not isinstance(value, Mapping):
            merged[key] = value
        elif value or key not in merged:
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
    return merged
