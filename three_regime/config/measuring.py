"""Settings of pruning and measuring: `prune` and `measure`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from three_regime.config.measures import MEASURES
from three_regime.config.section import Positive, Section, Seed
from three_regime.names import registered
from three_regime.pruning.criteria import CRITERIA

CKA_TOKENS = 2048
"""Default of `cka_tokens`; the number available is known only once the text has been prepared."""


class Pruning(Section):
    """Pruning of the dense checkpoint; by default one-shot and by magnitude (A)."""

    criterion: str = Field(
        "magnitude", description="Score by which weights are kept: magnitude (R, A); or random, gradient_magnitude"
        " (Blalock et al. 2020) or lamp (Lee et al. 2021), which are controls (this project's choice)."
    )  # fmt: skip
    allocation: Literal["uniform", "global", "erk"] = Field(
        "uniform", description="Same density in every prunable layer (A), one threshold for all layers (robustness), or"
        " the Erdős-Rényi-kernel densities of Evci et al. (2020)."
    )  # fmt: skip
    rounds: Positive = Field(
        1, description="Number of rounds, each removing the same fraction of the remaining weights. Scores are"
        " recomputed before each; without `epochs` only those of gradient_magnitude change (de Jorge et al. 2021)."
    )  # fmt: skip
    epochs: int = Field(
        0, ge=0, description="Training epochs between two rounds, with the settings of `retrain`; its milestones, and"
        " the warm-up of a schedule that anneals, at the same fractions of the run (Han et al. 2015; Renda et al."
        " 2020); 0: none (A: one round)."
    )  # fmt: skip
    gradient_batches: Positive = Field(
        10, description="gradient_magnitude: number of batches of `retrain` over which gradients are averaged (this"
        " project's choice)."
    )  # fmt: skip

    @field_validator("criterion")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, CRITERIA, "criterion")

    @model_validator(mode="after")
    def _consistent(self) -> Pruning:
        criterion = CRITERIA[self.criterion]
        criterion.check(self.allocation)
        if self.rounds > 1 and not criterion.needs_gradients and not self.epochs:
            raise ValueError(
                f"rounds: {self.rounds} rounds of criterion {criterion.name} remove the same weights as one, because"
                " nothing is trained between them (epochs: 0)"
            )
        if self.epochs and self.rounds == 1:
            raise ValueError(f"epochs: {self.epochs} epochs between rounds need `rounds` of at least 2")
        return self

    @property
    def trains(self) -> bool:
        """Whether networks are trained between rounds."""
        return self.epochs > 0

    @property
    def needs_data(self) -> bool:
        """Whether pruning needs the training data and torch."""
        return self.trains or CRITERIA[self.criterion].needs_gradients


class Hessian(Section):
    """Curvature of the training loss at each replica, restricted to the kept weights."""

    images: Positive = Field(
        2000, description="The loss is computed on the first N training images (this project's choice)."
    )
    tolerance: float = Field(
        0.01, gt=0, lt=1, description="Relative accuracy of the top eigenvalue (this project's choice)."
    )
    restarts: Positive = Field(
        50, description="Maximum number of restarts of the Lanczos method, about 20 products each."
    )
    probes: int = Field(100, ge=2, description="Maximum number of random probes for the trace.")
    trace_tolerance: float = Field(
        0.02, gt=0, lt=1, description="Stop drawing probes at this relative standard error of the trace."
    )
    seed: Seed = Field(1, description="Seed of the Lanczos start vector and of the probes.")


class Bezier(Section):
    """Quadratic Bezier curve between two replicas; its bend is trained with masked gradients (Garipov et al. 2018)."""

    epochs: Positive = Field(30, description="Training epochs of the bend (this project's choice).")
    learning_rate: float | None = Field(
        None, gt=0, description="Initial learning rate, annealed to zero; null: a tenth of that of `retrain` (this"
        " project's choice)."
    )  # fmt: skip


class LossPlane(Section):
    """Grid on the plane through the first three replicas of a cell (Garipov et al. 2018, figure 1)."""

    points: int = Field(
        7, ge=4, description="Points on each edge of the triangle of the replicas, ends included; one more than a"
        " multiple of 3, so that the centroid is a point (this project's choice)."
    )  # fmt: skip
    margin: int = Field(1, ge=0, description="Steps by which the grid exceeds the triangle (this project's choice).")

    @field_validator("points")
    @classmethod
    def _with_centroid(cls, points: int) -> int:
        if points % 3 != 1:
            raise ValueError(f"{points} points on an edge miss the centroid; use 4, 7, 10, 13, …")
        return points

    @property
    def count(self) -> int:
        """Number of points of the grid."""
        edge = self.points + 3 * self.margin
        return edge * (edge + 1) // 2


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
    also: tuple[str, ...] = Field(
        (), description="Additional measures of the retrained networks: agreement, divergence, distance, signs,"
        " sign_change, hessian, bezier, plane (this project's choice)."
    )  # fmt: skip
    hessian: Hessian = Hessian()
    bezier: Bezier = Bezier()
    plane: LossPlane = LossPlane()

    @field_validator("also")
    @classmethod
    def _measures(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError(f"{list(names)} names a measure twice")
        return tuple(registered(name, MEASURES, "measure") for name in names)
