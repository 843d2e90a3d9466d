"""Single translation checkpoints and a question: translate a file, without a study's configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from three_regime.datasets.aligned_text import read_lines
from three_regime.datasets.corpora import MANIFEST
from three_regime.datasets.prepared_text import open_text
from three_regime.decoding import DEFAULT_SEARCH, Search
from three_regime.device import choose
from three_regime.errors import UserError
from three_regime.pruning import split_masks
from three_regime.stages import input_digest
from three_regime.storage import PROVENANCE_KEY, read_arrays, read_json, write_text
from three_regime.tasks.translation import Translation

log = logging.getLogger(__name__)


def translate_file(
    checkpoint: Path,
    source: Path,
    out: Path,
    *,
    model: str | None = None,
    data: Path = Path("data"),
    search: Search = DEFAULT_SEARCH,
) -> int:
    """Translate a file, one sentence a line, with a dense, pruned or retrained checkpoint; returns their number.

    Parameters
    ----------
    model
        Model name; None takes it from the checkpoint's JSON result beside it.
    data
        Folder of a prepared corpus, whose subwords the checkpoint was trained on; or a folder of such folders, where
        the checkpoint's own is found by its digest.

    Raises
    ------
    UserError
        When the file is missing or not UTF-8, a sentence is longer than the model allows, the checkpoint is no
        safetensors file, or its model or corpus cannot be told.
    """
    task = task_of_checkpoint(checkpoint, model, data)
    weights = task.load(weights_of(checkpoint), str(checkpoint))
    lines = list(read_lines(source))
    try:
        translations = task.translate_lines(weights, lines, search)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    write_text(out, "".join(f"{line}\n" for line in translations))
    return len(lines)


def weights_of(checkpoint: Path) -> dict[str, Any]:
    """Weights of a safetensors checkpoint; masks are left out, for pruned weights are zero."""
    if checkpoint.suffix != ".safetensors":
        raise UserError(f"{checkpoint} is no .safetensors file; translation checkpoints are read from no other format")
    return split_masks(read_arrays(checkpoint))[0]


def task_of_checkpoint(checkpoint: Path, model: str | None, data: Path) -> Translation:
    """The task that a checkpoint was trained for (see `translate_file`)."""
    record = _provenance(checkpoint)
    model = model or record.get("recipe", {}).get("model")
    if model is None:
        raise UserError(f"{checkpoint} has no JSON result beside it that names its model: give --model")
    return Translation(open_text(_manifest(checkpoint, record, data)), model, torch.device(choose("auto")))


def _provenance(checkpoint: Path) -> Mapping[str, Any]:
    beside = checkpoint.with_suffix(".json")
    try:
        return read_json(beside).get(PROVENANCE_KEY, {})
    except UserError:
        return {}


def _manifest(checkpoint: Path, record: Mapping[str, Any], data: Path) -> Path:
    if (data / MANIFEST).is_file():
        return data / MANIFEST
    digest = record.get("inputs", {}).get("data")
    found = sorted(data.glob(f"*/{MANIFEST}"))
    for manifest in found:
        if digest is not None and input_digest(manifest) == digest:
            return manifest
    raise UserError(
        f"{checkpoint} does not say which prepared corpus below {data} it was trained on; name its folder:"
        f" --data {found[0].parent if found else data / 'NAME'}"
    )
