"""Schedules of the learning rate: a warm-up, then steps at milestones, an inverse square root, or a fall to zero."""

from __future__ import annotations

import math

from three_regime.config import Training


def learning_rate(
    training: Training, completed_epochs: int, completed_iterations: int, steps_per_epoch: int | None = None
) -> float:
    """Rate of the next step.

    In a straight line from ``warmup_start`` to ``learning_rate`` over ``warmup`` iterations (fairseq's rule), then:

    ``step``: the initial rate times ``gamma`` for each milestone that has been completed. The epoch after milestone m
    is the first with the lower rate, so a checkpoint taken after m epochs has only seen the old one (authors' code).

    ``inverse_sqrt``: falling with the inverse square root of the completed iterations (Vaswani et al. 2017; fairseq).

    ``linear``, ``cosine``: falling to zero, which it would reach in the step after the run's last one, in a straight
    line or in half a period of the cosine (Loshchilov and Hutter 2017, without restarts).

    Parameters
    ----------
    steps_per_epoch
        Needed where the rate anneals (`Training.anneals`) over a run whose length is in epochs.
    """
    # 1. The warm-up counts iterations, whatever unit the length of the run has.
    if completed_iterations < training.warmup:
        rise = (training.learning_rate - training.warmup_start) / training.warmup
        return training.warmup_start + completed_iterations * rise
    # 2. Continuous decays.
    if training.schedule == "inverse_sqrt":
        return training.learning_rate * math.sqrt(training.warmup / completed_iterations)
    if training.anneals:
        length = length_in_iterations(training, steps_per_epoch or 0)
        passed = (completed_iterations - training.warmup) / (length - training.warmup)
        left = 1 - passed if training.schedule == "linear" else (1 + math.cos(math.pi * passed)) / 2
        return training.learning_rate * left
    # 3. Milestones, in the unit of the run's length; a milestone counts once it is completed.
    completed = completed_epochs if training.by_epoch else completed_iterations
    passed = sum(1 for milestone in training.milestones if completed >= milestone)
    return training.learning_rate * training.gamma**passed


def length_in_iterations(training: Training, steps_per_epoch: int) -> int:
    """Number of steps of the whole run."""
    return training.epochs * steps_per_epoch if training.by_epoch else training.iterations
