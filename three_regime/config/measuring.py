"""How networks are pruned and measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from three_regime.config.section import Positive, Section

CKA_TOKENS = 2048
"""Default of `cka_tokens`; how many there are is known only once the text has been prepared."""


class Pruning(Section):
    """One-shot magnitude pruning of the dense checkpoint."""

    allocation: Literal["uniform", "global"] = Field(
        "uniform", description="Same density in every prunable layer (A), or one threshold for all (robustness)."
    )


class Measurement(Section):
    """LMC, CKA, errors and BLEU. Keys for images have no meaning for text, and the other way round."""

    points: int = Field(11, ge=3, description="Points on the line between two replicas, ends included (A).")
    batch_size: Positive = Field(64, description="Batch of the BatchNorm re-estimation along the line (A).")
    train_images: Positive | None = Field(
        None, description="Images of the re-estimation and the training error; null is the whole training set (A)."
    )
    cka_images: int = Field(6464, ge=2, description="Training images of CKA, from the first (A: 101 x 64; which ones"
                            " the published figure used is not known).")  # fmt: skip
    last_epochs: Positive = Field(5, description="The test error is the mean over the last epochs (A).")
    train_pairs: Positive = Field(
        2000, description="Text: training error, LMC and CKA are measured on the first N training pairs (this project's"
        " choice)."
    )  # fmt: skip
    cka_tokens: int = Field(
        CKA_TOKENS,
        ge=2,
        description="Text: target tokens of CKA, of pairs spread over the corpus; of the default's 2,048"
        " as many as there are (this project's choice).",
    )
    beam: Positive = Field(4, description="Text: beam of the translations whose BLEU counts (Vaswani et al. 2017).")
    length_penalty: float = Field(
        0.6, ge=0, description="Text: a hypothesis's log-probability is divided by its length to the power of this"
        " (fairseq's `lenpen`; Vaswani et al. have the number with another function, that of Wu et al. 2016)."
    )  # fmt: skip
    bleu_along_line: bool = Field(False, description="Text: validation BLEU at every point between two replicas too.")
