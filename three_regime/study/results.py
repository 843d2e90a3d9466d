"""Read and validate the JSON results of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from three_regime.config.measures import MEASURES
from three_regime.errors import Damaged
from three_regime.system.files import DIGEST_KEY, PROVENANCE_KEY, read_json

FINGERPRINT_KEY = "fingerprint"

_ERRORS = ("train.error", "train.nll", "test.error", "test.nll")
_NUMBERS = {
    "dense": _ERRORS,
    "pruned": ("sparsity.model_density",),
    "retrained": ("test_error", *_ERRORS),
    "lmc": ("lmc", "lmc_nll", "lmc_test", "lmc_test_nll"),
    "cka": ("logits", "softmax"),
}
_UNDEFINED = {"cka"}
"""Stems of results whose numbers may be null: undefined."""

_LISTS = {
    "dense": ("history",),
    "retrained": ("history",),
    "lmc": ("t", "train_error", "train_nll", "test_error", "test_nll"),
}
"""Stem of a result file → entries that the tables need; dots separate nested keys."""


@dataclass(frozen=True)
class Result:
    """A JSON result and fields of its provenance.

    Attributes
    ----------
    content
        The whole JSON object.
    inputs
        Role → tensor digest of the input.
    digest
        Tensor digest of the weights beside it; None if there are none, or for results of early versions.
    """

    content: dict[str, Any]
    fingerprint: str
    origin: str
    recipe: dict[str, Any]
    inputs: dict[str, str]
    digest: str | None

    @property
    def provenance(self) -> dict[str, Any]:
        return self.content[PROVENANCE_KEY]


def read_result(path: Path) -> Result:
    """Read a JSON result.

    Raises
    ------
    UserError
        When the file is missing.
    Damaged
        When it cannot be read or lacks something that its stage writes.
    """
    content = read_json(path)
    record = content.get(PROVENANCE_KEY) if isinstance(content, dict) else None
    if not isinstance(record, Mapping):
        raise Damaged(path, "carries no provenance")
    parts = {
        "fingerprint": (record.get(FINGERPRINT_KEY), str),
        "origin": (record.get("origin"), str),
        "recipe": (record.get("recipe"), dict),
        "inputs": (record.get("inputs", {}), dict),
        "wall_s": (record.get("wall_s"), (int, float)),
        "finished": (record.get("finished"), str),
        "versions": (record.get("versions"), dict),
    }
    for name, (value, kind) in parts.items():
        if not isinstance(value, kind):
            raise Damaged(path, f"is damaged: its provenance has no readable {name}")
    if measure := MEASURES.get(Path(path).stem):
        for column in measure.columns:
            if not isinstance(_at(content, column.name), (int, float)):
                raise Damaged(path, f"is damaged: it has no readable {column.name}")
        for name in measure.lists:
            if not isinstance(_at(content, name), list):
                raise Damaged(path, f"is damaged: it has no readable {name}")
    for kinds, kind in ((_NUMBERS, (int, float)), (_LISTS, list)):
        for place in kinds.get(Path(path).stem, ()):
            absent = Path(path).stem in _UNDEFINED and place in content and content[place] is None
            if not absent and not isinstance(_at(content, place), kind):
                raise Damaged(path, f"is damaged: it has no readable {place}")
    return Result(
        content, record[FINGERPRINT_KEY], record["origin"], record["recipe"], parts["inputs"][0], record.get(DIGEST_KEY)
    )


def _at(content: Mapping[str, Any], place: str) -> Any:
    value: Any = content
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
