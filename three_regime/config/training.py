"""How one network is trained."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from three_regime.config.optimisers import OPTIMISERS
from three_regime.config.section import Positive, Section
from three_regime.names import registered


class Training(Section):
    """How one network is trained, dense or sparse."""

    optimiser: str = Field("sgd", description="`sgd` with momentum (R, A) or `adam` (A in dense training alone: the"
                           " authors retrain with SGD whatever the dense optimiser).")  # fmt: skip
    learning_rate: float = Field(0.1, gt=0, description="Initial learning rate (R, A: 0.1; Adam: 1e-3).")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD (R, A).")
    weight_decay: float = Field(1e-4, ge=0, description="L2 coefficient on every parameter (R, A).")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's decay rates (Adam's defaults).")
    epsilon: float = Field(1e-8, gt=0, description="Adam's denominator offset (Adam's default).")
    epsilon_placement: Literal["torch", "fairseq"] = Field(
        "torch", description="When Adam adds `epsilon` to the root of the second moment: `torch` after the correction"
        " of its bias (the usual rule), `fairseq` before it (the default of translation, which follows fairseq)."
    )  # fmt: skip
    batch_size: Positive = Field(64, description="Images a step (R, A); text: largest number of tokens, padding"
                                 " included, on the longer side of a batch (fairseq's max_tokens).")  # fmt: skip
    epochs: Positive | None = Field(None, description="Length of the run in epochs (R, A: 160). Or give `iterations`.")
    iterations: Positive | None = Field(None, description="Length of the run in steps (A: 62,400 for the batch knob).")
    milestones: tuple[Positive, ...] = Field(
        (), description="The rate is multiplied by `gamma` after this many completed epochs (or iterations, where"
        " the length is in iterations) (R, A: 80 and 120 of 160)."
    )  # fmt: skip
    gamma: float = Field(0.1, gt=0, le=1, description="Factor at each milestone (R, A).")
    drop_last: bool = Field(False, description="Drop the last partial batch of an epoch (A: kept, but not for the"
                            " batch-size knob).")  # fmt: skip
    sam_rho: float = Field(0.0, ge=0, description="Radius of sharpness-aware minimisation; 0 is plain training (A: in"
                           " dense training alone, at batch 64 in the epochs scripts and 32 in the batch-size scripts)."
                           )  # fmt: skip
    schedule: Literal["step", "inverse_sqrt", "linear", "cosine"] = Field(
        "step", description="Learning rate after `warmup`: `step` falls at the milestones (R, A); `inverse_sqrt` falls"
        " with the inverse square root of the iterations (translation); `linear` and `cosine` fall to zero at the end"
        " of the run (this project's choice)."
    )  # fmt: skip
    warmup: int = Field(0, ge=0, description="Iterations of rising rate (translation: 4,000).")
    warmup_start: float = Field(1e-7, ge=0, description="Rate of the first step of the warm-up (fairseq's custom).")
    accumulate: Positive = Field(1, description="Batches whose gradients make one step (translation only: BatchNorm"
                                 " sees one batch at a time).")  # fmt: skip
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of a step's gradient; null does not clip.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout rate (translation only; 0.1 there).")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Probability mass spread over the vocabulary"
                                   " (translation only; 0.1 there).")  # fmt: skip
    shuffle_ties: bool = Field(False, description="Draw in each epoch which of the pairs with equally long sides share"
                               " a batch (translation only; by default every epoch has the same batches).")  # fmt: skip
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "tf32", description="On a GPU: `tf32` in convolutions (A: cuDNN's default), `bf16` autocast (translation), or"
        " `fp32`. No effect on a CPU; measuring is always fp32 (A: TF32 there too). fp16 is not offered: its narrow"
        " range needs scaled losses and skipped steps, which bf16 with the range of fp32 does not; a GPU without bf16"
        " (V100, T4) trains in `fp32`."
    )  # fmt: skip
    evaluate_every: Positive = Field(1, description="Epochs between test evaluations; checkpoints and the last"
                                     " `measure.last_epochs` are always evaluated.")  # fmt: skip

    @field_validator("optimiser")
    @classmethod
    def _known(cls, name: str) -> str:
        return registered(name, OPTIMISERS, "optimiser")

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give the length either as `epochs` or as `iterations`, and not both")
        length = self.epochs or self.iterations
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must increase")
        if self.milestones and self.milestones[-1] > length:
            raise ValueError(f"milestone {self.milestones[-1]} lies beyond the end of the run ({length})")
        if self.schedule == "inverse_sqrt" and self.warmup < 1:
            raise ValueError("schedule inverse_sqrt needs `warmup` of at least 1")
        if self.schedule != "step" and self.milestones:
            raise ValueError(f"schedule {self.schedule} takes no milestones; they belong to step")
        if self.anneals and self.iterations is not None and self.warmup >= self.iterations:
            raise ValueError(f"warmup {self.warmup} must be less than the {self.iterations} iterations of the run")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must lie in [0, 1)")
        return self

    @property
    def anneals(self) -> bool:
        """Whether the rate of a step depends on the length of the whole run: it falls to zero at its end."""
        return self.schedule in ("linear", "cosine")

    @property
    def by_epoch(self) -> bool:
        """Whether length and milestones count epochs (else iterations)."""
        return self.epochs is not None

    def epochs_on(self, images: int) -> int:
        """Epochs of the run on so many training images, the last perhaps begun only."""
        return self.epochs or math.ceil(self.iterations / self.steps_on(images))

    def steps_on(self, images: int) -> int:
        """Steps of an epoch of so many training images."""
        return images // self.batch_size if self.drop_last else math.ceil(images / self.batch_size)


class Retraining(Training):
    """How the pruned networks are retrained, and from which weights."""

    start: Literal["pruned", "reinitialised", "rewound"] = Field(
        "pruned", description="Weights under the masks at the start: `pruned`, those of the dense network (A);"
        " `reinitialised`, drawn anew, alike for all replicas, temperatures and densities of a dense seed (Frankle and"
        " Carbin 2019); `rewound`, those of the dense network after `rewind_epoch` (Frankle et al. 2020). The two"
        " controls are this project's choice."
    )  # fmt: skip
    rewind_epoch: Positive | None = Field(
        None, description="Dense epoch to which `rewound` goes back; the dense run of the epochs knob delivers it too."
    )

    @model_validator(mode="after")
    def _starts(self) -> Retraining:
        if (self.start == "rewound") != (self.rewind_epoch is not None):
            raise ValueError("start: rewound needs `rewind_epoch`, and no other start has one")
        return self
