"""Split batches that do not fit into GPU memory, without changing the step."""

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
    """Halve the micro-batches of a run each time the device runs out of memory.

    The effective batch size is unchanged: the trainer weights each part by its number of targets, so a step equals
    the step on the whole batch up to rounding. A size that did not fit is not tried again in this process.
    """

    def __init__(self, task: Task, label: str) -> None:
        self.task, self.label = task, label
        self.halvings = 0

    def compute(self, parts: Sequence[Any], compute: Callable[[Sequence[Any]], Value]) -> Value:
        """Return ``compute(parts)``; when the device runs out of memory, start again with the parts halved.

        Raises
        ------
        UserError
            When a batch cannot be divided further; image batches never can, since BatchNorm sees the whole batch.
        """

        pieces = self._cut(parts)

        def in_halves(reason: str) -> Value:
            self.halvings += 1
            if len(self._cut(parts)) == len(pieces):
                raise UserError(
                    f"{self.label}: the GPU ran out of memory, and this batch cannot be computed in smaller parts"
                    " without changing the numbers (BatchNorm takes its statistics over the whole batch; a single"
                    " example is indivisible); free memory on the GPU or use a larger one, let a job advance fewer"
                    " networks with `pack: [replica]`, or lower the study's `batch_size`"
                )
            log.warning(
                "%s: the GPU ran out of memory (%s); from now on each batch is computed in up to %d parts, with the"
                " same effective batch size", self.label, reason, 2**self.halvings,
            )  # fmt: skip
            return self.compute(parts, compute)

        return gpu_memory.attempt(lambda: compute(pieces), in_halves)

    def _cut(self, parts: Sequence[Any]) -> list[Any]:
        return [piece for part in parts for piece in self._pieces(part, self.halvings)]

    def _pieces(self, part: Any, halvings: int) -> list[Any]:
        """`part` halved so often; a piece that is indivisible earlier stays whole, for it may be small enough."""
        halves = self.task.halves(part) if halvings else None
        if halves is None:
            return [part]
        return [piece for half in halves for piece in self._pieces(half, halvings - 1)]
