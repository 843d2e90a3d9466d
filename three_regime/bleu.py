"""BLEU by sacrebleu, with the signature that makes a score comparable (Post 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from three_regime.datasets.aligned_text import read_aligned
from three_regime.errors import UserError


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Corpus BLEU of detokenised sentences, sacrebleu's defaults: mixed case, tokeniser 13a.

    Returns
    -------
    ``bleu`` (0 … 100), ``signature``, ``sentences``.

    Raises
    ------
    UserError
        When the numbers of sentences differ, or there are none.
    """
    from sacrebleu.metrics import BLEU

    if len(hypotheses) != len(references) or not references:
        raise UserError(f"BLEU needs one reference a sentence, not {len(hypotheses)} and {len(references)}")
    metric = BLEU()
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return {"bleu": score.score, "signature": str(metric.get_signature()), "sentences": len(references)}


def bleu_of_files(hypotheses: Path, references: Path) -> dict[str, Any]:
    """BLEU of a file of translations, one sentence a line.

    Raises
    ------
    UserError
        When a file is missing or not UTF-8, or their numbers of lines differ (both are named).
    """
    pairs = list(read_aligned(hypotheses, references))
    return bleu([pair[0] for pair in pairs], [pair[1] for pair in pairs])
