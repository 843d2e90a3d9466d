"""BLEU and chrF by sacrebleu, with the signatures that make scores comparable (Post 2018).

The hypotheses of a measured checkpoint are stored compressed in its JSON result, so other scores and significance tests
need no decoding.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from three_regime.datasets.aligned_text import read_aligned
from three_regime.errors import UserError
from three_regime.system.files import read_json

SAMPLES = 1000
"""Number of resamples of the paired bootstrap (Koehn 2004; sacrebleu's default)."""

SEED = "12345"
"""Seed of the resamples (sacrebleu's default)."""

TOKENISERS = {"zh": "zh"} | dict.fromkeys(("ja", "ko", "th", "lo", "km", "my"), "char")
"""Target language → sacrebleu's tokeniser of BLEU where words are not separated by spaces, or not reliably."""


def tokeniser(language: str) -> str:
    """Name of sacrebleu's tokeniser for BLEU in `language`, a code such as ``en`` or ``zh_TW``."""
    return TOKENISERS.get(language.replace("-", "_").partition("_")[0].lower(), "13a")


def scored(hypotheses: Sequence[str], references: Sequence[str], language: str = "en") -> dict[str, Any]:
    """Corpus BLEU and chrF of detokenised sentences, with sacrebleu's defaults but for `tokeniser`.

    Both sides are compared in NFC, the form of the training text: otherwise an accented word of a reference in another
    form never matches.

    Parameters
    ----------
    language
        The target language.

    Returns
    -------
    ``bleu``, ``chrf`` (0 … 100), their signatures ``signature`` and ``chrf_signature``, ``brevity_penalty`` and
    ``length_ratio`` (translations to references, in BLEU's words), and ``sentences``.

    Raises
    ------
    UserError
        When the numbers of sentences differ or are zero.
    """
    from sacrebleu.metrics import BLEU, CHRF

    if len(hypotheses) != len(references) or not references:
        raise UserError(f"BLEU needs one reference per sentence, not {len(hypotheses)} and {len(references)}")
    words, characters = BLEU(tokenize=tokeniser(language)), CHRF()
    bleu, chrf = (metric.corpus_score(_composed(hypotheses), [_composed(references)]) for metric in (words, characters))
    return {
        "bleu": bleu.score,
        "signature": str(words.get_signature()),
        "brevity_penalty": bleu.bp,
        "length_ratio": bleu.ratio,
        "chrf": chrf.score,
        "chrf_signature": str(characters.get_signature()),
        "sentences": len(references),
    }


def _composed(lines: Sequence[str]) -> list[str]:
    return [unicodedata.normalize("NFC", line) for line in lines]


def scores_of_files(hypotheses: Path, references: Path, language: str = "en") -> dict[str, Any]:
    """Scores of a file of translations into `language`, one sentence per line.

    Raises
    ------
    UserError
        When a file is missing or not UTF-8, or their numbers of lines differ; the message names the files.
    """
    pairs = list(read_aligned(hypotheses, references))
    return scored([pair[0] for pair in pairs], [pair[1] for pair in pairs], language)


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


@contextlib.contextmanager
def _fixed_seed() -> Iterator[None]:
    """Set the environment variable from which sacrebleu takes its seed."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = SEED
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before


def paired_bootstrap(
    first: Sequence[str], second: Sequence[str], references: Sequence[str], language: str = "en"
) -> dict[str, Any]:
    """Test whether two sets of translations of the same sentences differ: sacrebleu's paired bootstrap (Koehn 2004).

    The resamples are the same in every call (`SEED`). `scored` describes the metrics.

    Returns
    -------
    For ``BLEU`` and ``chrF2``: ``first``, ``second`` (0 … 100), ``p_value`` and ``signature``.
    """
    from sacrebleu.metrics import BLEU, CHRF
    from sacrebleu.significance import PairedTest

    against = [_composed(references)]
    metrics = {"BLEU": BLEU(references=against, tokenize=tokeniser(language)), "chrF2": CHRF(references=against)}
    systems = [("first", _composed(first)), ("second", _composed(second))]
    with _fixed_seed():
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
