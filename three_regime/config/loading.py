"""The one loader of Snakefile and command line: from YAML files to a validated configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from three_regime.config.study import StudyConfig
from three_regime.config.whole import Config
from three_regime.errors import UserError
from three_regime.names import nearest

FROZEN = "frozen"
"""Key beside the settings in the configuration file of one run (`three_regime.runs`)."""


def resolve(mapping: Mapping[str, Any]) -> Config:
    """Validate a merged mapping and fill in its defaults; what a run noted of itself (`FROZEN`) is passed over.

    Raises
    ------
    UserError
        One line for each problem: the key's place, what is wrong, and the nearest valid key or value.
    """
    try:
        return Config.model_validate({key: value for key, value in mapping.items() if key != FROZEN})
    except ValidationError as error:
        raise UserError("\n".join(_sentence(problem) for problem in error.errors())) from error


def load(paths: Iterable[Path]) -> Config:
    """Read YAML files, later ones over earlier ones as Snakemake does, and `resolve` the result.

    Mappings are merged key by key, everything else is replaced.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            overlay = yaml.safe_load(Path(path).read_bytes()) or {}
        except FileNotFoundError as error:
            raise UserError(f"config file {path} does not exist") from error
        except yaml.YAMLError as error:
            raise UserError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(overlay, dict):
            raise UserError(f"config file {path} must hold a mapping of keys")
        merged = merge(merged, overlay)
    return resolve(merged)


def schema_text() -> str:
    """The JSON schema (draft 2020-12) of the configuration, as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """`overlay` over `base`: mappings merged recursively, other values replaced, as Snakemake's `update_config` does.

    Like there, an empty mapping replaces nothing.
    """
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key, {})
        if not isinstance(value, Mapping):
            merged[key] = value
        elif value or key not in merged:
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
    return merged


def _sentence(problem: Mapping[str, Any]) -> str:
    place = ".".join(["config", *(str(part) for part in problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key{nearest(str(problem['loc'][-1]), _keys_at(problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{place}: this key is missing"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = f" (it is {value!r})" if problem["type"] != "value_error" and not isinstance(value, Mapping) else ""
    return f"{place}: {message}{shown}"


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the section at `place`, a path through the models."""
    section: Any = Config
    for part in place:
        if section is Config and part == "studies":
            return _keys_below_study(place[2:]) if len(place) > 1 else []
        section = section.model_fields[str(part)].annotation
    return list(section.model_fields)


def _keys_below_study(place: tuple[int | str, ...]) -> list[str]:
    section: Any = StudyConfig
    for part in place:
        section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
    return list(section.model_fields)
