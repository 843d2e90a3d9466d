"""Read the provenance of a checkpoint from the JSON result beside it, for commands on single checkpoints."""

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
"""Number of digits of a digest in messages."""


@dataclass(frozen=True)
class CheckpointRecord:
    """Recorded origin of a checkpoint; None for entries that are not recorded.

    Attributes
    ----------
    model, dataset
        Names of the model and the data set.
    data
        Digest of the prepared data that the network was trained on.
    label_noise
        Share of the training labels that was replaced by other classes; None without label noise.
    """

    model: str | None
    dataset: str | None
    data: str | None
    label_noise: float | None = None


def check_exists(*checkpoints: Path) -> None:
    """Raise if a checkpoint does not exist, before its data or record are checked."""
    for path in checkpoints:
        if not path.is_file():
            raise UserError(f"checkpoint {path} is missing or is not a file")


def read_record(checkpoint: Path) -> CheckpointRecord:
    """Read the record beside a checkpoint; the data of a pruned one are taken from the record of its dense one."""
    record = _provenance(checkpoint.with_suffix(".json"))
    inputs = record.get("inputs", {})
    trained = record
    if "data" not in inputs and "dense" in inputs:
        dense = _provenance(checkpoint.absolute().parent.parent / "dense.json")
        trained = dense if dense.get(DIGEST_KEY) == inputs["dense"] else record
    recipe = trained.get("recipe", {})
    found = record.get("recipe", {}).get("model"), recipe.get("dataset"), trained.get("inputs", {}).get("data")
    noise = recipe.get("label_noise")
    return CheckpointRecord(
        *(value if isinstance(value, str) else None for value in found),
        label_noise=noise if isinstance(noise, float) else None,
    )


def check_labels(*checkpoints: Path) -> None:
    """Raise if a checkpoint was trained with label noise, whose labels only its study knows."""
    for path in checkpoints:
        if (noise := read_record(path).label_noise) is not None:
            raise UserError(
                f"{path} was trained with label noise {noise:g}, and its errors would be measured with other labels:"
                " measure LMC in its study (`python -m three_regime run-stage lmc`)"
            )


def corpus_of(checkpoint: Path, record: CheckpointRecord, data: Path) -> Path:
    """Manifest of the prepared corpus to use with a checkpoint.

    Parameters
    ----------
    data
        Folder of the corpus, or a folder of corpora, in which the checkpoint's corpus is found by its digest.

    Raises
    ------
    UserError
        When `data` is not the checkpoint's corpus, or does not contain it.
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
    """Raise if a prepared corpus is not the one a checkpoint was trained on, if that is recorded.

    Another corpus assigns other subwords to the same indices, so results would be meaningless.
    """
    found = input_digest(folder / MANIFEST)
    if record.data in (None, found):
        return
    own = _with_digest(folder.absolute().parent, record.data)
    mend = f"use --data {own.parent}" if own else "use that corpus, or prepare it again as the study has it"
    raise UserError(
        f"{checkpoint} was trained on a {_named(record.dataset)} with digest {record.data[:_SHOWN]}…, and {folder} has"
        f" digest {found[:_SHOWN]}…: its pairs or subwords differ; {mend}"
    )


def warn_of_other_images(checkpoint: Path, record: CheckpointRecord, dataset: str, folder: Path, digest: str) -> None:
    """Warn if images are not those a checkpoint was trained on.

    This is not an error: pixels mean the same in every data set, and connectivity on other images is meaningful.
    """
    if record.data not in (None, digest):
        log.warning(
            "%s was trained on %s with digest %s…, and is measured on %s of %s with digest %s…",
            checkpoint, record.dataset, record.data[:_SHOWN], dataset, folder, digest[:_SHOWN],
        )  # fmt: skip


def _with_digest(data: Path, digest: str | None) -> Path | None:
    for manifest in sorted(data.glob(f"*/{MANIFEST}")) if digest else []:
        with contextlib.suppress(UserError):  # skip damaged corpora
            if input_digest(manifest) == digest:
                return manifest
    return None


def _named(dataset: str | None) -> str:
    return f"prepared {dataset}" if dataset else "prepared corpus"


def _provenance(result: Path) -> Mapping[str, Any]:
    """Provenance in a JSON result; empty if there is none, or the file belongs to another program.

    Its recipe and inputs are mappings, if they are there.
    """
    if not result.is_file():
        return {}
    try:
        content = read_json(result)
    except UserError as error:
        log.warning("ignoring a damaged record: %s", error)
        return {}
    record = content.get(PROVENANCE_KEY) if isinstance(content, dict) else None
    if not isinstance(record, dict) or not all(isinstance(record.get(key, {}), dict) for key in ("recipe", "inputs")):
        return {}
    return record
