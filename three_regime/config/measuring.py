"""Settings of pruning and measuring: `prune` and `measure`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from three_regime.config.section import Positive, Section

CKA_TOKENS = 2048
"""Default of `cka_tokens`; the number available is known only once the text has been prepared."""


class Pruning(Section):
    """One-shot magnitude pruning of the dense checkpoint."""

    allocation: Literal["uniform", "global"] = Field(
        "uniform", description="Same density in every prunable layer (A), or one threshold for all layers (robustness)."
    )


class Measurement(Section):
    """Measurement of LMC, CKA, errors and BLEU. Keys for images do not apply to text, and vice versa."""

    points: int = Field(11, ge=3, description="Points on the line between two replicas, including the ends (A).")
    batch_size: Positive = Field(64, description="Batch size of BatchNorm re-estimation along the line (A).")
    train_images: Positive | None = Field(
        None, description="Training images for re-estimation and training error along the line; null: all (A)."
    )
    cka_images: int = Field(6464, ge=2, description="CKA is computed on the first N training images (A: 101 x 64; which"
                            " ones the published figure used is unknown).")  # fmt: skip
    last_epochs: Positive = Field(5, description="The test error is averaged over this many last epochs (A).")
    train_pairs: Positive = Field(
        2000, description="Text: training error, LMC and CKA are measured on N training pairs spread over the corpus"
        " (this project's choice)."
    )  # fmt: skip
    cka_tokens: int = Field(
        CKA_TOKENS,
        ge=2,
        description="Text: number of target tokens for CKA, from these pairs; the default is lowered to the number"
        " available (this project's choice).",
    )
    beam: Positive = Field(4, description="Text: beam size for BLEU (Vaswani et al. 2017).")
    length_penalty: float = Field(
        0.6, ge=0, description="Text: log-probabilities are divided by length ** length_penalty (fairseq's `lenpen`;"
        " Vaswani et al. use this value in a different function, that of Wu et al. 2016)."
    )  # fmt: skip
    bleu_along_line: bool = Field(False, description="Text: also measure validation BLEU at every point of the line.")
