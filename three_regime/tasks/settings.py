"""The settings of the paper: the task of each kind of data."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from three_regime.tasks.interface import Task

if TYPE_CHECKING:
    from three_regime.study.grid import Study


TASKS = {"images": "three_regime.tasks.images.task", "text": "three_regime.tasks.translation.task"}
"""Kind of data → module with ``of_study(study, device) -> Task``."""


def of_study(study: Study, device: str) -> Task:
    """The task of a study, with its data on the device (``cpu`` or ``cuda``)."""
    return importlib.import_module(TASKS[study.config.dataset.entry.kind]).of_study(study, device)
