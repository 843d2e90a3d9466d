"""Fingerprints: compute the hash of everything that changes a result's numbers, and read it from files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from three_regime.errors import UserError
from three_regime.study.results import FINGERPRINT_KEY, read_result
from three_regime.system.files import DIGEST_KEY, read_metadata


def fingerprint_of(recipe: dict[str, Any], digests: dict[str, str]) -> str:
    """SHA-256 of a recipe and its inputs' digests, as 64 hexadecimal digits."""
    text = json.dumps({"recipe": recipe, "inputs": digests}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def input_digest(path: Path) -> str:
    """The tensor digest stored in `path` or, if it was discarded, in the JSON file beside it.

    See `Product.fingerprint` for errors.
    """
    if not path.exists() and (digest := recorded_digest(path)):
        return digest
    metadata = read_metadata(path)
    if DIGEST_KEY not in metadata:
        raise UserError(f"{path} carries no digest; import foreign checkpoints with `python -m three_regime import`")
    return metadata[DIGEST_KEY]


def recorded_digest(path: Path) -> str | None:
    """The digest of a weights file recorded in the JSON file beside it; None if there is none."""
    try:
        return read_result(path.with_suffix(".json")).digest
    except UserError:
        return None


def stored_fingerprint(path: Path) -> str | None:
    """The fingerprint in a result file; None when the file is missing, damaged or carries none."""
    return _carried(path)[0]


def _carried(path: Path) -> tuple[str | None, str | None]:
    """Fingerprint and tensor digest in a result file; None for either that is absent."""
    try:
        if path.suffix == ".json":
            result = read_result(path)
            return result.fingerprint, result.digest
        metadata = read_metadata(path)
        return metadata.get(FINGERPRINT_KEY), metadata.get(DIGEST_KEY)
    except UserError:
        return None, None
