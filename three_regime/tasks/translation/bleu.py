"""BLEU and chrF by sacrebleu, with the signatures that make scores comparable (Post 2018).

The hypotheses of a measured checkpoint are stored compressed in its JSON result, so other scores and significance tests
need no decoding.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from three_regime.datasets.aligned_text import read_aligned
from three_regime.errors import UserError
from three_regime.system.files import read_json

SAMPLES = 1000
"""Number of resamples of the paired bootstrap (Koehn 2004; sacrebleu's default)."""


def scored(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Corpus BLEU and chrF of detokenised sentences, with sacrebleu's defaults (BLEU: mixed case, tokeniser 13a).

    Returns
    -------
    ``bleu``, ``chrf`` (0 … 100), their signatures ``signature`` and ``chrf_signature``, and ``sentences``.

    Raises
    ------
    UserError
        When the numbers of sentences differ or are zero.
    """
    from sacrebleu.metrics import BLEU, CHRF

    if len(hypotheses) != len(references) or not references:
        raise UserError(f"BLEU needs one reference per sentence, not {len(hypotheses)} and {len(references)}")
    found: dict[str, Any] = {}
    for name, prefix, metric in (("bleu", "", BLEU()), ("chrf", "chrf_", CHRF())):
        found[name] = metric.corpus_score(list(hypotheses), [list(references)]).score
        found[f"{prefix}signature"] = str(metric.get_signature())
    return {**found, "sentences": len(references)}


def scores_of_files(hypotheses: Path, references: Path) -> dict[str, Any]:
    """Scores of a file of translations, one sentence per line.

    Raises
    ------
    UserError
        When a file is missing or not UTF-8, or their numbers of lines differ; the message names the files.
    """
    pairs = list(read_aligned(hypotheses, references))
    return scored([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def kept(hypotheses: Sequence[str]) -> dict[str, Any]:
    """Encode hypotheses, sentences without line breaks, for a JSON result: deflated, base64, with a digest."""
    assert not any("\n" in line for line in hypotheses)
    text = "".join(f"{line}\n" for line in hypotheses).encode()
    return {
        "deflated": base64.b64encode(zlib.compress(text, 9)).decode(),
        "sha256": hashlib.sha256(text).hexdigest(),
    }


def restored(entry: Mapping[str, Any], place: str) -> list[str]:
    """Decode the hypotheses from an entry of `kept`.

    Raises
    ------
    UserError
        When they are damaged; the message names `place`.
    """
    try:
        text = zlib.decompress(base64.b64decode(entry["deflated"]))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise UserError(f"{place}: the hypotheses are damaged ({error})") from error
    if hashlib.sha256(text).hexdigest() != entry.get("sha256"):
        raise UserError(f"{place}: the hypotheses are damaged: they do not match their digest")
    return text.decode().split("\n")[:-1]


def hypotheses_of(result: Path, split: str) -> list[str]:
    """Translations of a split stored in a checkpoint's JSON result.

    Raises
    ------
    UserError
        When the file is missing or damaged, or holds none.
    """
    try:
        entry = read_json(result)["scores"][split]["hypotheses"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{result} holds no translations of split {split}: that split was not measured") from error
    return restored(entry, str(result))


def paired_bootstrap(first: Sequence[str], second: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Test whether two sets of translations of the same sentences differ: sacrebleu's paired bootstrap (Koehn 2004).

    The resamples are the same in every call (sacrebleu's seed).

    Returns
    -------
    For ``BLEU`` and ``chrF2``: ``first``, ``second`` (0 … 100), ``p_value`` and ``signature``.
    """
    from sacrebleu.metrics import BLEU, CHRF
    from sacrebleu.significance import PairedTest

    metrics = {"BLEU": BLEU(references=[list(references)]), "chrF2": CHRF(references=[list(references)])}
    systems = [("first", list(first)), ("second", list(second))]
    signatures, found = PairedTest(systems, metrics, None, test_type="bs", n_samples=SAMPLES)()
    return {
        name: {
            "first": found[name][0].score,
            "second": found[name][1].score,
            # sacrebleu counts resamples whose difference exceeds that of the systems, which fails if it is zero.
            "p_value": found[name][1].p_value if found[name][0].score != found[name][1].score else 1.0,
            "signature": str(signatures[name]),
        }
        for name in metrics
    }
