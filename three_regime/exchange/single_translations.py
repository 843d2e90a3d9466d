"""Translate a file with a single checkpoint, and compare two checkpoints, without a study's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from three_regime.datasets.aligned_text import read_lines
from three_regime.errors import UserError
from three_regime.exchange.checkpoint_files import own_weights
from three_regime.exchange.checkpoint_record import check_exists, corpus_of, read_record
from three_regime.models import families
from three_regime.preparation.prepared_text import open_text
from three_regime.system.device import choose
from three_regime.system.files import write_text
from three_regime.tasks.translation.beam_search import DEFAULT_SEARCH, Search
from three_regime.tasks.translation.bleu import hypotheses_of, paired_bootstrap
from three_regime.tasks.translation.setting import SETTING
from three_regime.tasks.translation.task import Translation


def translate_file(
    checkpoint: Path,
    source: Path,
    out: Path,
    *,
    model: str | None = None,
    data: Path = Path("data"),
    search: Search = DEFAULT_SEARCH,
) -> int:
    """Translate a file, one sentence per line, with a dense, pruned or retrained checkpoint; return their number.

    Parameters
    ----------
    model
        Model name; None: from the JSON result beside the checkpoint.
    data
        Folder of the prepared corpus that the checkpoint was trained on, or a folder of corpora, in which it is found
        by its digest.

    Raises
    ------
    UserError
        When a file is missing, the text is not UTF-8, a sentence is longer than the model allows, the checkpoint is not
        a safetensors file, its model or corpus is unknown, or `data` is another corpus.
    """
    check_exists(checkpoint)
    task = task_of_checkpoint(checkpoint, model, data)
    weights = task.load(own_weights(checkpoint, SETTING.title), str(checkpoint))
    lines = list(read_lines(source))
    try:
        translations = task.translate_lines(weights, lines, search)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    write_text(out, "".join(f"{line}\n" for line in translations))
    return len(lines)


def bootstrap_of_results(first: Path, second: Path, split: str, data: Path = Path("data")) -> dict[str, Any]:
    """Paired bootstrap of the saved translations of two measured checkpoints (`bleu.paired_bootstrap`).

    Parameters
    ----------
    first, second
        Checkpoints of the same corpus, or the JSON results beside them.
    data
        See `translate_file`.

    Raises
    ------
    UserError
        When a result is missing, damaged or has no translations, `data` is another corpus, or they are of different
        sentences.
    """
    found = [hypotheses_of(path.with_suffix(".json"), split) for path in (first, second)]
    if len(found[0]) != len(found[1]):
        raise UserError(f"{first} and {second} have translations of {len(found[0])} and {len(found[1])} sentences")
    corpora = [open_text(corpus_of(path, read_record(path), data)) for path in (first, second)]
    references, others = (corpus.references(split)[: len(found[0])] for corpus in corpora)
    if references != others:
        raise UserError(f"{first} and {second} have translations of different sentences in split {split}")
    return paired_bootstrap(*found, references, corpora[0].languages[1])


def task_of_checkpoint(checkpoint: Path, model: str | None, data: Path) -> Translation:
    """The task that a checkpoint was trained for (see `translate_file`)."""
    record = read_record(checkpoint)
    model = model or record.model
    if model is None:
        raise UserError(f"{checkpoint} has no JSON result beside it that names its model: give --model")
    if not SETTING.takes(model):
        raise UserError(f"{checkpoint} cannot translate: its model {model} takes {families.parse(model).kind}")
    return Translation(open_text(corpus_of(checkpoint, record, data)), model, torch.device(choose("auto")))
