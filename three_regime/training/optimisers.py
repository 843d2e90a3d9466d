"""Optimiser steps on flat vectors that hold all parameters of a network.

The functions use tensor methods only, so this module does not import torch. All operations are element-wise, so a
leading member dimension is allowed. A new optimiser needs an entry in ``UPDATES`` and one in
`three_regime.config.optimisers.OPTIMISERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from three_regime.config import Training

Slots = Mapping[str, "Tensor"]
Update = Callable[["Tensor", "Tensor", Slots, "Training", float, int], None]


def sgd(parameters: Tensor, gradient: Tensor, slots: Slots, training: Training, rate: float, step: int) -> None:
    """SGD with momentum and coupled weight decay, in place (as `torch.optim.SGD`; public record, authors' code).

    Parameters
    ----------
    parameters, gradient
        Shape (P,). `gradient` is overwritten.
    rate
        Learning rate of this step.
    step
        Steps completed before this one (not used: with zero momentum the first step is plain SGD).
    """
    gradient.add_(parameters, alpha=training.weight_decay)
    momentum = slots["momentum"].mul_(training.momentum).add_(gradient)
    parameters.sub_(momentum, alpha=rate)


def adam(parameters: Tensor, gradient: Tensor, slots: Slots, training: Training, rate: float, step: int) -> None:
    """Adam with weight decay, in place (Kingma and Ba 2015), as torch's or as fairseq's. Parameters as for `sgd`.

    `training.epsilon_placement` says whether epsilon is added to the root of the second moment after bias correction
    (their algorithm 1; torch) or before it (end of their section 2; fairseq). Only tiny gradients differ. Weight decay
    is coupled in torch's (part of the gradient) and decoupled in fairseq's (the weights themselves shrink).
    """
    first_decay, second_decay = training.betas
    if training.epsilon_placement == "fairseq":
        parameters.mul_(1 - rate * training.weight_decay)
    else:
        gradient.add_(parameters, alpha=training.weight_decay)
    first = slots["first"].lerp_(gradient, 1 - first_decay)
    second = slots["second"].mul_(second_decay).addcmul_(gradient, gradient, value=1 - second_decay)
    first_correction = 1 - first_decay ** (step + 1)
    second_correction = 1 - second_decay ** (step + 1)
    if training.epsilon_placement == "fairseq":
        denominator = second.sqrt().add_(training.epsilon)
        rate *= math.sqrt(second_correction)
    else:
        denominator = (second / second_correction).sqrt_().add_(training.epsilon)
    parameters.addcdiv_(first, denominator, value=-rate / first_correction)


UPDATES: dict[str, Update] = {"sgd": sgd, "adam": adam}
"""Optimiser name → update rule; `three_regime.config.optimisers` names its state vectors (slots)."""
