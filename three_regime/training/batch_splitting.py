"""Split batches that do not fit into the GPU's memory, where a step stays the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from three_regime.errors import UserError
from three_regime.system import gpu_memory
from three_regime.tasks.interface import Task

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class BatchSplitter:
    """The micro-batches of one run, halved as often as the device has run out of memory.

    The effective batch stays what it was: the trainer weights each part by its targets, so a step equals the one
    on the whole batch up to rounding. What did not fit once is not tried again in this process.
    """

    def __init__(self, task: Task, label: str) -> None:
        self.task, self.label = task, label
        self.halvings = 0

    def compute(self, parts: Sequence[Any], compute: Callable[[Sequence[Any]], Value]) -> Value:
        """`compute` of the parts; again from the start, of their halves, when the device runs out of memory.

        Raises
        ------
        UserError
            When a batch cannot be divided further: for images never, since BatchNorm sees the whole batch.
        """

        def in_halves(reason: str) -> Value:
            self.halvings += 1
            log.warning(
                "%s: the GPU ran out of memory (%s); from here on each batch is computed in %d parts, with the same"
                " effective batch", self.label, reason, 2**self.halvings,
            )  # fmt: skip
            return self.compute(parts, compute)

        return gpu_memory.attempt(
            lambda: compute([piece for part in parts for piece in self._pieces(part, self.halvings)]), in_halves
        )

    def _pieces(self, part: Any, halvings: int) -> list[Any]:
        if halvings == 0:
            return [part]
        halves = self.task.halves(part)
        if halves is None:
            raise UserError(
                f"{self.label}: the GPU ran out of memory, and this batch cannot be computed in parts without changing"
                " the numbers (BatchNorm takes its statistics over the whole batch; a single example has no parts);"
                " free memory on the GPU or use a larger one, let a job advance fewer networks with `pack: [replica]`,"
                " or lower the study's `batch_size`"
            )
        return [piece for half in halves for piece in self._pieces(half, halvings - 1)]
