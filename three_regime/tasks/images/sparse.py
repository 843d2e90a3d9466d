"""Image networks with fixed masks, computed by the compiled sparse engine (``three_regime/kernels/sparse.h``).

The engine assembles batches from bytes with a lookup table of `Augmenter.normalise`, so inputs are identical.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from three_regime.config import Training
from three_regime.errors import UserError
from three_regime.kernels import Kernels, graph_rules
from three_regime.kernels.graph import EPSILON, Graph, Lowerable, Unsupported
from three_regime.kernels.program import Program
from three_regime.pruning.masks import Masks
from three_regime.tasks.images.batches import ImageEpoch
from three_regime.tasks.images.network import ImageNetwork
from three_regime.tasks.interface import Metrics, Split, Weights

if TYPE_CHECKING:
    from three_regime.kernels.binding import Library

log = logging.getLogger(__name__)

EVALUATION_BATCH = 64
"""Feature maps of 64 images fit into the L3 cache (the working set of a core fits into L2 for any batch size)."""


class SparseImages:
    """Sparse engine for images; see `three_regime.tasks.interface.SparseNetwork`.

    Memory is allocated on first use, separately for training and evaluation.
    """

    def __init__(
        self, task: ImageNetwork, library: Library, graph: Graph, masks: Masks, winograd: frozenset[str]
    ) -> None:
        self.task, self.masks = task, masks
        self.computed_with: Kernels = "sparse-winograd" if winograd else "sparse"
        self._winograd = winograd
        self._library, self._graph = library, graph
        self._programs: dict[bool, Program] = {}
        every_byte = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 1, task.entry.channels)
        self._levels = task.augmenter.normalise(every_byte)[:, :, 0, 0].T.contiguous().numpy()
        self._pixels = {split: images.numpy() for split, images in task.images.items()}
        self._labels = {split: labels.numpy() for split, labels in task.labels.items()}

    @classmethod
    def of(cls, task: ImageNetwork, library: Library, masks: Masks, only: Kernels | None) -> SparseImages | None:
        """The engine for a task's network with these masks; None if it is unsupported or not faster.

        ``only="sparse"`` excludes Winograd convolutions, to continue runs of versions without them.
        """
        model, entry = task.model, task.entry
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        if not isinstance(model, Lowerable) or any((norm.eps, norm.momentum) != (EPSILON, 0.1) for norm in norms):
            return None
        graph = Graph(entry.channels, entry.image_size)
        try:
            model.lowered(graph)
            graph_rules.check(graph)
        except Unsupported as reason:
            log.debug("not by the sparse engine: %s", reason)
            return None
        if not graph.pays(masks):
            return None
        return cls(task, library, graph, masks, frozenset() if only == "sparse" else graph.winograd(masks))

    def removed_are_zero(self, weights: Mapping[str, np.ndarray | Tensor]) -> bool:
        return all(not np.asarray(weights[name])[~mask].any() for name, mask in self.masks.items())

    def step(
        self,
        parameters: Tensor,
        momentum: Tensor,
        buffers: Weights,
        epoch: ImageEpoch,
        step: int,
        training: Training,
        rate: float,
    ) -> tuple[Tensor, Tensor, int]:
        order, shifts, flips = (choice.numpy() for choice in epoch.choices(step))
        program = self._program(training.batch_size, training=True)
        losses, wrong = program.run(
            "step",
            parameters=parameters.numpy(),
            momentum=momentum.numpy(),
            statistics=self._statistics(program, buffers),
            pixels=self._pixels["train"],
            labels=self._labels["train"],
            levels=self._levels,
            count=len(order),
            order=order,
            shifts=shifts,
            flips=flips,
            padding=self.task.augmenter.padding,
            rate=rate,
            factor=training.momentum,
            decay=training.weight_decay,
        )
        for value in buffers.values():
            if value.dtype == torch.int64:  # `num_batches_tracked` of BatchNorm
                value.add_(1)
        return torch.tensor(losses / len(order)), torch.tensor(wrong), len(order)

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        program = self._program(EVALUATION_BATCH, training=False)
        common = self._common(program, weights, split)
        total = len(self._labels[split][:images])
        nll, errors = 0.0, 0
        for start, count in _batches(total, EVALUATION_BATCH):
            losses, wrong = program.run("evaluate", start=start, count=count, **common)
            nll, errors = nll + losses, errors + wrong
        return Metrics(errors / total, nll / total)

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        program = self._program(batch_size, training=False)
        found = {name: torch.zeros_like(weights[name]) for name in self.task.buffers}
        common = self._common(program, {**weights, **found}, "train")
        seen = 0
        for start, count in _batches(len(self._labels["train"][:images]), batch_size):
            seen += count
            program.run("statistics", start=start, count=count, moved=count / seen, **common)
        return {**weights, **found}

    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        """As `ImageNetwork.outputs`."""
        if images > len(self._labels["train"]):
            raise UserError(f"{images} images were requested, but there are {len(self._labels['train'])}")
        program = self._program(EVALUATION_BATCH, training=False)
        common = self._common(program, weights, "train")
        logits = np.empty((images, program.classes), np.float32)
        for start, count in _batches(images, EVALUATION_BATCH):
            program.run("evaluate", start=start, count=count, logits=logits[start : start + count], **common)
        exact = torch.from_numpy(logits).double()
        yield "logits", exact.numpy()
        yield "softmax", exact.softmax(1).numpy()

    def _program(self, images: int, *, training: bool) -> Program:
        """The program for batches of up to `images`; a smaller cached one is replaced."""
        found = self._programs.get(training)
        if found is None or found.images < images:
            found = self._programs[training] = Program(
                self._library.functions,
                self._graph,
                self.task.parameters,
                self.masks,
                images=images,
                threads=torch.get_num_threads(),
                training=training,
                winograd=self._winograd,
            )
        return found

    def _common(self, program: Program, weights: Weights, split: Split) -> dict[str, Any]:
        parameters = torch.cat([weights[name].reshape(-1) for name in self.task.parameters])
        return {
            "parameters": parameters.numpy(),
            "statistics": self._statistics(program, weights),
            "pixels": self._pixels[split],
            "labels": self._labels[split],
            "levels": self._levels,
        }

    @staticmethod
    def _statistics(program: Program, buffers: Weights) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (buffers[f"{norm}.running_mean"].numpy(), buffers[f"{norm}.running_var"].numpy()) for norm in program.norms
        ]


def _batches(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of each batch."""
    return ((start, min(size, total - start)) for start in range(0, total, size))
