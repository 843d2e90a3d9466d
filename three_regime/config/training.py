"""Settings of training: `dense` and `retrain`."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from three_regime.config.optimisers import OPTIMISERS
from three_regime.config.section import Positive, Section
from three_regime.names import registered


class Training(Section):
    """Training of one network, dense or sparse."""

    optimiser: str = Field("sgd", description="`sgd` with momentum (R, A) or `adam` (A only in dense training: the"
                           " authors always retrain with SGD).")  # fmt: skip
    learning_rate: float = Field(0.1, gt=0, description="Initial learning rate (R, A: 0.1; Adam: 1e-3).")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD (R, A).")
    weight_decay: float = Field(1e-4, ge=0, description="L2 coefficient, applied to every parameter (R, A);"
                                " with fairseq's Adam decoupled, as there.")  # fmt: skip
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's decay rates (Adam's defaults).")
    epsilon: float = Field(1e-8, gt=0, description="Adam's denominator offset (Adam's default).")
    epsilon_placement: Literal["torch", "fairseq"] = Field(
        "torch", description="When Adam adds `epsilon` to the root of the second moment: after bias correction"
        " (`torch`, the usual rule) or before it (`fairseq`, the default for translation; its weight decay is"
        " decoupled)."
    )  # fmt: skip
    batch_size: Positive = Field(64, description="Images per batch (A); text: maximum number of tokens, including"
                                 " padding, on the longer side of a batch (fairseq's max_tokens).")  # fmt: skip
    epochs: Positive | None = Field(None, description="Length of the run in epochs (R, A: 160). Or give `iterations`.")
    iterations: Positive | None = Field(None, description="Length of the run in steps (A: 62,400 for the batch knob).")
    milestones: tuple[Positive, ...] = Field(
        (), description="The learning rate is multiplied by `gamma` after each of these numbers of completed epochs (or"
        " iterations, if the length is in iterations) (R, A: 80 and 120 of 160)."
    )  # fmt: skip
    gamma: float = Field(0.1, gt=0, le=1, description="Factor at each milestone (R, A).")
    drop_last: bool = Field(False, description="Drop the last partial batch of an epoch (A: kept, except for the"
                            " batch-size knob).")  # fmt: skip
    sam_rho: float = Field(0.0, ge=0, description="Radius of sharpness-aware minimisation (SAM); 0 disables it (A: only"
                           " in dense training, at batch 64 in the epochs scripts and 32 in the batch-size scripts)."
                           )  # fmt: skip
    schedule: Literal["step", "inverse_sqrt", "linear", "cosine"] = Field(
        "step", description="Learning rate after `warmup`: `step` decays at the milestones (R, A); `inverse_sqrt` with"
        " the inverse square root of the iteration (translation); `linear` and `cosine` anneal to zero at the end of"
        " the run (this project's choice)."
    )  # fmt: skip
    warmup: int = Field(0, ge=0, description="Iterations of linear warm-up (translation: 4,000).")
    warmup_start: float = Field(1e-7, ge=0, description="Learning rate of the first warm-up step (as fairseq).")
    accumulate: Positive = Field(1, description="Batches whose gradients are accumulated for one step (translation"
                                 " only, because BatchNorm sees one batch at a time).")  # fmt: skip
    clip_norm: float | None = Field(None, gt=0, description="Maximum gradient norm; null: no clipping.")
    dropout: float = Field(0.0, ge=0, le=0.99, description="Dropout rate (translation only; 0.1 there).")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Probability mass spread over the vocabulary"
                                   " (translation only; 0.1 there).")  # fmt: skip
    shuffle_ties: bool = Field(False, description="Shuffle pairs of equal source and target length in each epoch"
                               " (translation only; by default every epoch has the same batches).")  # fmt: skip
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "tf32", description="On a GPU: `tf32` in convolutions (A: cuDNN's default), `bf16` autocast (translation), or"
        " `fp32`. No effect on a CPU; measuring is always fp32 (A: TF32). fp16 is not supported: its narrow range needs"
        " loss scaling and skipped steps, while bf16 has the range of fp32; use `fp32` on GPUs without bf16 (V100, T4)."
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
            raise ValueError("give the length either as `epochs` or as `iterations`, not both")
        length = self.epochs or self.iterations
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must increase")
        if self.milestones and self.milestones[-1] > length:
            raise ValueError(f"milestone {self.milestones[-1]} is beyond the end of the run ({length})")
        if self.schedule == "inverse_sqrt" and self.warmup < 1:
            raise ValueError("schedule inverse_sqrt needs `warmup` of at least 1")
        if self.schedule != "step" and self.milestones:
            raise ValueError(f"schedule {self.schedule} takes no milestones; only `step` does")
        if self.anneals and self.iterations is not None and self.warmup >= self.iterations:
            raise ValueError(f"warmup {self.warmup} must be less than the {self.iterations} iterations of the run")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must lie in [0, 1)")
        return self

    @property
    def anneals(self) -> bool:
        """Whether the learning rate depends on the total length of the run, because it anneals to zero at its end."""
        return self.schedule in ("linear", "cosine")

    @property
    def plain_sgd(self) -> bool:
        """Whether every step is plain SGD, without SAM and gradient clipping, as the CPU engine requires."""
        return self.optimiser == "sgd" and self.sam_rho == 0 and self.clip_norm is None

    @property
    def by_epoch(self) -> bool:
        """Whether length and milestones are in epochs (otherwise iterations)."""
        return self.epochs is not None

    def epochs_on(self, images: int) -> int:
        """Number of epochs on `images` training images; the last may be incomplete."""
        return self.epochs or math.ceil(self.iterations / self.steps_on(images))

    def iterations_of(self, steps_per_epoch: int) -> int:
        """Total number of steps of the run."""
        return self.epochs * steps_per_epoch if self.by_epoch else self.iterations

    def steps_on(self, images: int) -> int:
        """Steps per epoch on `images` training images."""
        return images // self.batch_size if self.drop_last else math.ceil(images / self.batch_size)


class Retraining(Training):
    """Retraining of the pruned networks, with the choice of the weights to start from."""

    start: Literal["pruned", "reinitialised", "rewound"] = Field(
        "pruned", description="Weights to start from, with the masks applied: `pruned` uses those of the dense network"
        " (A); `reinitialised` draws new ones, the same for all replicas, temperatures and densities of a dense seed"
        " (Frankle and Carbin 2019); `rewound` uses those of the dense network after `rewind_epoch` (Frankle et al."
        " 2020). The last two are controls (this project's choice)."
    )  # fmt: skip
    rewind_epoch: Positive | None = Field(
        None, description="Dense epoch that `rewound` starts from; the dense run saves this checkpoint too. Only for"
        " the epochs knob."
    )  # fmt: skip

    @model_validator(mode="after")
    def _starts(self) -> Retraining:
        if (self.start == "rewound") != (self.rewind_epoch is not None):
            raise ValueError("start: rewound needs `rewind_epoch`, and the other starts do not take it")
        return self
