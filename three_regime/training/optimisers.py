"""Optimisers on flat vectors: one update of all parameters of a network.

The functions use tensor methods only, so this module needs no torch import; a leading member dimension
works unchanged because every operation is element-wise. A new optimiser is one entry of ``UPDATES``,
and one of `three_regime.config.optimisers.OPTIMISERS`.
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
    """SGD with momentum and coupled weight decay, in place (torch.optim.SGD's rule; R, A).

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
    """Adam with coupled L2, in place (Kingma and Ba 2015). Arguments as for `sgd`.

    Epsilon is added to the root of the second moment after the correction of its bias (algorithm 1; torch), or before
    it (the order of their section 2; fairseq), as `training.epsilon_placement` says: the same but for tiny gradients.
    """
    first_decay, second_decay = training.betas
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
"""Optimiser → its rule; `three_regime.config.optimisers` names the state vectors that it is given."""
