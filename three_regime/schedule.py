"""Schedules of the learning rate: steps at milestones (images), or warm-up and inverse square root (translation)."""

from __future__ import annotations

import math

from three_regime.config import Training


def learning_rate(training: Training, completed_epochs: int, completed_iterations: int) -> float:
    """Rate of the next step.

    ``step``: the initial rate times ``gamma`` for each milestone that has been completed. The epoch after milestone m
    is the first with the lower rate, so a checkpoint taken after m epochs has only seen the old one (authors' code).

    ``inverse_sqrt``: from ``warmup_start`` in a straight line to ``learning_rate`` over ``warmup`` iterations, then
    falling with the inverse square root of the completed iterations (Vaswani et al. 2017; fairseq's rule).
    """
    if training.schedule == "inverse_sqrt":
        if completed_iterations < training.warmup:
            rise = (training.learning_rate - training.warmup_start) / training.warmup
            return training.warmup_start + completed_iterations * rise
        return training.learning_rate * math.sqrt(training.warmup / completed_iterations)
    completed = completed_epochs if training.by_epoch else completed_iterations
    passed = sum(1 for milestone in training.milestones if completed >= milestone)
    return training.learning_rate * training.gamma**passed


def length_in_iterations(training: Training, steps_per_epoch: int) -> int:
    """Number of steps of the whole run."""
    return training.epochs * steps_per_epoch if training.by_epoch else training.iterations
