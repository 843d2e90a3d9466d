"""What the JSON result beside a checkpoint says of its making, for the commands that take single checkpoints."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from three_regime.datasets.corpora import MANIFEST
from three_regime.errors import UserError
from three_regime.study.fingerprints import input_digest
from three_regime.system.files import DIGEST_KEY, PROVENANCE_KEY, read_json

log = logging.getLogger(__name__)

_SHOWN = 12
"""Digits of a digest in messages."""


@dataclass(frozen=True)
class CheckpointRecord:
    """What is known of a checkpoint; None where nothing is recorded.

    Attributes
    ----------
    model, dataset
        Their names.
    data
        Digest of the prepared data that the network was trained on.
    """

    model: str | None
    dataset: str | None
    data: str | None


def check_exists(*checkpoints: Path) -> None:
    """Refuse a checkpoint that is not there, before anything is asked of its data or record."""
    for path in checkpoints:
        if not path.is_file():
            raise UserError(f"checkpoint {path} is missing or is no file")


def read_record(checkpoint: Path) -> CheckpointRecord:
    """What is recorded beside a checkpoint; of a pruned one, where its data is concerned, beside the dense one."""
    record = _provenance(checkpoint.with_suffix(".json"))
    recipe, inputs = record.get("recipe", {}), record.get("inputs", {})
    trained = record
    if "data" not in inputs and "dense" in inputs:
        dense = _provenance(checkpoint.absolute().parents[1] / "dense.json")
        trained = dense if dense.get(DIGEST_KEY) == inputs["dense"] else record
    return CheckpointRecord(
        recipe.get("model"), trained.get("recipe", {}).get("dataset"), trained.get("inputs", {}).get("data")
    )  # fmt: skip


def corpus_of(checkpoint: Path, record: CheckpointRecord, data: Path) -> Path:
    """Manifest of the prepared corpus to use with a checkpoint.

    Parameters
    ----------
    data
        The corpus's folder, or a folder of such folders, where the checkpoint's own is found by its digest.

    Raises
    ------
    UserError
        When `data` is another corpus than the checkpoint's, or does not hold that.
    """
    if (data / MANIFEST).is_file():
        check_corpus(checkpoint, record, data)
        return data / MANIFEST
    if (own := _with_digest(data, record.data)) is not None:
        return own
    found = sorted(data.glob(f"*/{MANIFEST}"))
    raise UserError(
        f"{checkpoint} does not say which prepared corpus below {data} it was trained on; name its folder:"
        f" --data {found[0].parent if found else data / 'NAME'}"
        if record.data is None
        else f"{checkpoint} was trained on a {_named(record.dataset)} with digest {record.data[:_SHOWN]}…, which is not"
        f" below {data}; name its folder with --data, or prepare it again as the study has it"
    )


def check_corpus(checkpoint: Path, record: CheckpointRecord, folder: Path) -> None:
    """Refuse a prepared corpus other than the one a checkpoint was trained on, where that is recorded.

    A corpus of the same number of subwords has others under the same numbers: the result would be nonsense.
    """
    found = input_digest(folder / MANIFEST)
    if record.data in (None, found):
        return
    own = _with_digest(folder.absolute().parent, record.data)
    mend = f"use --data {own.parent}" if own else "use that corpus, or prepare it again as the study has it"
    raise UserError(
        f"{checkpoint} was trained on a {_named(record.dataset)} with digest {record.data[:_SHOWN]}…, and {folder} has"
        f" digest {found[:_SHOWN]}…: its subwords are others; {mend}"
    )


def warn_of_other_images(checkpoint: Path, record: CheckpointRecord, dataset: str, folder: Path, digest: str) -> None:
    """Say so when images are not those that a checkpoint was trained on.

    They are not refused: pixels mean the same in every data set, and connectivity on other images is a fair question.
    """
    if record.data not in (None, digest):
        log.warning(
            "%s was trained on %s with digest %s…, and is measured on %s of %s with digest %s…",
            checkpoint, record.dataset, record.data[:_SHOWN], dataset, folder, digest[:_SHOWN],
        )  # fmt: skip


def _with_digest(data: Path, digest: str | None) -> Path | None:
    for manifest in sorted(data.glob(f"*/{MANIFEST}")) if digest else []:
        with contextlib.suppress(UserError):  # a damaged corpus is not the one that is looked for
            if input_digest(manifest) == digest:
                return manifest
    return None


def _named(dataset: str | None) -> str:
    return f"prepared {dataset}" if dataset else "prepared corpus"


def _provenance(result: Path) -> Mapping[str, Any]:
    """Provenance of a JSON result; empty where there is none, or another program's file."""
    if not result.is_file():
        return {}
    try:
        content = read_json(result)
    except UserError as error:
        log.warning("nothing is taken from a damaged record: %s", error)
        return {}
    record = content.get(PROVENANCE_KEY) if isinstance(content, dict) else None
    return record if isinstance(record, dict) else {}
