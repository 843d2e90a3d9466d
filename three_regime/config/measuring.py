"""How networks are pruned and measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from three_regime.config.measures import MEASURES
from three_regime.config.section import Positive, Section, Seed
from three_regime.names import registered
from three_regime.pruning.criteria import CRITERIA

CKA_TOKENS = 2048
"""Default of `cka_tokens`; how many there are is known only once the text has been prepared."""


class Pruning(Section):
    """Pruning of the dense checkpoint: one-shot, by magnitude (A), unless it says otherwise."""

    criterion: str = Field(
        "magnitude", description="By which score weights are kept: magnitude (R, A); random, gradient_magnitude"
        " (Blalock et al. 2020) or lamp (Lee et al. 2021), which are controls (this project's choice)."
    )  # fmt: skip
    allocation: Literal["uniform", "global", "erk"] = Field(
        "uniform", description="Same density in every prunable layer (A), one ranking of all (robustness), or the"
        " Erdős-Rényi-kernel densities of Evci et al. (2020)."
    )  # fmt: skip
    rounds: Positive = Field(
        1, description="gradient_magnitude: rounds in which the weights go, the gradients of what is left computed anew"
        " before each (de Jorge et al. 2021). The other scores would not change between rounds without training."
    )  # fmt: skip
    gradient_batches: Positive = Field(
        10, description="gradient_magnitude: batches of `retrain` over which the gradient is averaged (this project's"
        " choice)."
    )  # fmt: skip

    @field_validator("criterion")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, CRITERIA, "criterion")

    @model_validator(mode="after")
    def _consistent(self) -> Pruning:
        criterion = CRITERIA[self.criterion]
        if self.allocation not in criterion.allocations:
            allowed = ", ".join(criterion.allocations)
            raise ValueError(f"criterion {criterion.name} does not go with allocation {self.allocation}: use {allowed}")
        if self.rounds > 1 and not criterion.needs_gradients:
            raise ValueError(
                f"rounds: {self.rounds} rounds of criterion {criterion.name} remove what one does, because nothing"
                " is trained between them"
            )
        return self


class Hessian(Section):
    """Curvature of the training loss at each replica, in the directions of the kept weights."""

    images: Positive = Field(2000, description="First training images of the loss, or all (this project's choice).")
    tolerance: float = Field(
        0.01, gt=0, lt=1, description="Relative accuracy of the top eigenvalue (this project's choice)."
    )
    restarts: Positive = Field(50, description="Most restarts of Lanczos's method, of some 20 products each.")
    probes: int = Field(100, ge=2, description="Most random probes of the trace.")
    trace_tolerance: float = Field(
        0.02, gt=0, lt=1, description="Relative standard error of the trace at which no more are drawn."
    )
    seed: Seed = Field(1, description="Seed of the start of Lanczos's method and of the probes.")


class Bezier(Section):
    """A quadratic Bezier curve between two replicas, its bend trained with masked gradients (Garipov et al. 2018)."""

    epochs: Positive = Field(30, description="Epochs of training the bend (this project's choice).")
    learning_rate: float | None = Field(
        None, gt=0, description="First rate, which falls to zero; null: a tenth of that of `retrain` (this project's"
        " choice)."
    )  # fmt: skip


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
    also: tuple[str, ...] = Field(
        (), description="Measures beside LMC and CKA, of the same networks: agreement, divergence, distance, hessian,"
        " bezier (this project's choice)."
    )  # fmt: skip
    hessian: Hessian = Hessian()
    bezier: Bezier = Bezier()

    @field_validator("also")
    @classmethod
    def _measures(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError(f"{list(names)} holds a measure twice")
        return tuple(registered(name, MEASURES, "measure") for name in names)
