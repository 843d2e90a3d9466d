"""Learning-rate schedules: linear warm-up, then step, inverse square root, linear or cosine decay."""

from __future__ import annotations

import math

from three_regime.config import Training


def learning_rate(
    training: Training, completed_epochs: int, completed_iterations: int, steps_per_epoch: int | None = None
) -> float:
    """Learning rate of the next step.

    Linear from ``warmup_start`` to ``learning_rate`` over ``warmup`` iterations (as fairseq), then by schedule:

    ``step``: the initial rate times ``gamma`` for each completed milestone. The epoch after milestone m
    is the first with the lower rate, so a checkpoint taken after m epochs has only seen the old one (authors' code).

    ``inverse_sqrt``: proportional to 1/√(completed iterations) (Vaswani et al. 2017; fairseq).

    ``linear``, ``cosine``: annealed to zero along a line or half a cosine period (Loshchilov and Hutter 2017, without
    restarts); zero would be reached one step after the last.

    Parameters
    ----------
    steps_per_epoch
        Required when the rate anneals (`Training.anneals`) and the run's length is given in epochs.
    """
    # 1. Linear warm-up, counted in iterations even when the run's length is given in epochs.
    if completed_iterations < training.warmup:
        rise = (training.learning_rate - training.warmup_start) / training.warmup
        return training.warmup_start + completed_iterations * rise
    # 2. Schedules that decay at every step.
    if training.schedule == "inverse_sqrt":
        return training.learning_rate * math.sqrt(training.warmup / completed_iterations)
    if training.anneals:
        length = training.iterations_of(steps_per_epoch or 0)
        passed = (completed_iterations - training.warmup) / (length - training.warmup)
        left = 1 - passed if training.schedule == "linear" else (1 + math.cos(math.pi * passed)) / 2
        return training.learning_rate * left
    # 3. Step decay at milestones, in the unit of the run's length; a milestone counts once it is completed.
    completed = completed_epochs if training.by_epoch else completed_iterations
    passed = sum(1 for milestone in training.milestones if completed >= milestone)
    return training.learning_rate * training.gamma**passed
