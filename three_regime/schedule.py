"""The step schedule of the learning rate, by completed epochs or by completed iterations."""

from __future__ import annotations

from three_regime.config import Training


def learning_rate(training: Training, completed_epochs: int, completed_iterations: int) -> float:
    """Rate of the next step: the initial rate times ``gamma`` for each milestone that has been completed.

    The epoch after milestone m is the first with the lower rate, so a checkpoint taken after m epochs has only seen
    the old one (authors' code).
    """
    completed = completed_epochs if training.by_epoch else completed_iterations
    passed = sum(1 for milestone in training.milestones if completed >= milestone)
    return training.learning_rate * training.gamma**passed


def length_in_iterations(training: Training, steps_per_epoch: int) -> int:
    """Number of steps of the whole run."""
    return training.epochs * steps_per_epoch if training.by_epoch else training.iterations
