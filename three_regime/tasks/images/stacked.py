"""Compute several image networks of one architecture together: batches, loss, evaluation and re-estimation."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from three_regime.config import Training
from three_regime.kernels import Kernels
from three_regime.models.stacked import StackedNetwork
from three_regime.random_streams import Streams
from three_regime.system.device import convolution_precision
from three_regime.tasks.images.batches import ImageEpoch
from three_regime.tasks.images.batchnorm_reestimation import averaging
from three_regime.tasks.images.network import ImageNetwork
from three_regime.tasks.interface import Metrics, Split, Weights
from three_regime.tasks.pack_sizes import TOGETHER

log = logging.getLogger(__name__)

EVALUATION_BATCH = 128
CPU_MEMORY = 2**30
"""Bytes of activations that a pack may use on a CPU (this project's choice); on a GPU, half of the free memory."""

_CHECKED_IMAGES = 4


class StackedEpoch:
    """The same epoch of several members, each with its own order, shifts and flips."""

    def __init__(self, task: ImageNetwork, members: Sequence[ImageEpoch], batch_size: int) -> None:
        self.steps = members[0].steps
        self._task, self._size = task, batch_size
        self._order, self._shifts, self._flips = (
            torch.stack([getattr(member, name) for member in members], 1) for name in ("order", "shifts", "flips")
        )

    def micro_batches(self, step: int) -> tuple[tuple[Tensor, Tensor]]:
        """Augmented images (n, M · C, H, W), in one indexing operation, and labels (M, n) of one step."""
        here = slice(step * self._size, (step + 1) * self._size)
        chosen = self._order[here]
        augmenter, images = self._task.augmenter, self._task.images["train"]
        crops = augmenter.crop(images[chosen.flatten()], self._shifts[here].flatten(0, 1), self._flips[here].flatten())
        apart = augmenter.normalise(crops).unflatten(0, chosen.shape)
        return ((_side_by_side(apart), self._task.labels["train"][chosen].T.contiguous()),)


def _side_by_side(images: Tensor) -> Tensor:
    """(n, M, C, H, W) → (n, M · C, H, W) in channels-last memory."""
    return images.permute(0, 3, 4, 1, 2).flatten(3).contiguous().permute(0, 3, 1, 2)


class ImageStack:
    """Several networks of an image task computed together; see `three_regime.tasks.interface.Stack`.

    Parameters
    ----------
    network
        Module of the architecture, not shared with other objects.
    width
        Maximum number of members together; None: as many as fit into memory.
    """

    together = True
    computed_with: Kernels = "plain"  # the wide network is computed by torch, whatever the process uses

    def __init__(self, task: ImageNetwork, network: nn.Module, width: int | None) -> None:
        self.device = task.device
        self.task = task
        self.stacked = StackedNetwork(network)
        self.network = network
        self._width = width

    @functools.cached_property
    def width(self) -> int:
        """Maximum number of members computed together; memory is measured once, before the members occupy it."""
        return self._width or self._fitting()

    def rows(self, members: int) -> int:
        return self.stacked.rows(members)

    def epoch(self, streams: Sequence[Streams], epoch: int, training: Training) -> StackedEpoch:
        distinct = {each: self.task.epoch(each, epoch, training) for each in dict.fromkeys(streams)}
        return StackedEpoch(self.task, [distinct[each] for each in streams], training.batch_size)

    def loss(self, parameters: Weights, buffers: Weights, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, int]:
        images, labels = batch
        self.network.train()
        logits = self.stacked({**parameters, **buffers}, images)
        errors = (logits.detach().argmax(2) != labels).sum(1)
        return self._losses(logits, labels).mean(1), errors, labels.shape[1]

    def targets(self, batch: tuple[Tensor, Tensor]) -> int:
        return batch[1].shape[1]

    @torch.no_grad()
    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> list[Metrics]:
        members = len(next(iter(weights.values())))
        errors = torch.zeros(members, dtype=torch.int64, device=self.device)
        nll = torch.zeros(members, dtype=torch.float64, device=self.device)
        total = 0
        self.network.eval()
        for batch, labels in self.task.in_file_order(split, EVALUATION_BATCH, images):
            logits = self.stacked(weights, self._for_all(batch, members))
            errors += (logits.argmax(2) != labels).sum(1)
            nll += self._losses(logits, labels.expand(members, -1)).sum(1).double()
            total += len(labels)
        return [Metrics(wrong / total, loss / total) for wrong, loss in zip(errors.tolist(), nll.tolist(), strict=True)]

    @torch.no_grad()
    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """As `ImageNetwork.reestimate`, for each network."""
        weights = {
            name: torch.zeros_like(value) if name in self.task.buffers else value for name, value in weights.items()
        }
        members = len(next(iter(weights.values())))
        self.network.train()
        with averaging(self.stacked.norms, self.task.in_file_order("train", batch_size, images)) as batches:
            for batch, _ in batches:
                self.stacked(weights, self._for_all(batch, members))
        return weights

    def reproduces(self, network: nn.Module) -> bool:
        """Whether two different networks computed together give the same logits as each alone, in fp32.

        False for an architecture that mixes channels by an operation that `models.stacked` does not support.
        """
        weights = {name: value.detach() for name, value in network.state_dict().items()}
        twice = {
            name: torch.stack([value, value * 0.5]) for name, value in weights.items() if value.is_floating_point()
        }
        whole = {name: torch.stack([value, value]) for name, value in weights.items()} | twice
        images = self.task.augmenter.normalise(self.task.images["train"][:_CHECKED_IMAGES])
        self.network.eval()
        network.eval()
        # Training may use TF32, whose rounding is as large as the tolerance.
        with torch.no_grad(), convolution_precision(tf32=False):
            try:
                together = self.stacked(whole, self._for_all(images, 2))
            except torch.OutOfMemoryError:
                raise
            except (TypeError, RuntimeError, ValueError) as error:
                log.debug("cannot be computed side by side: %s", error)
                return False
            alone = torch.stack([
                torch.func.functional_call(network, {name: value[row] for name, value in whole.items()}, (images,))
                for row in range(2)
            ])  # fmt: skip
        return together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * alone.std())

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each image, (M, n)."""
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)

    def _for_all(self, images: Tensor, members: int) -> Tensor:
        return _side_by_side(images[:, None].expand(-1, members, -1, -1, -1))

    def _fitting(self) -> int:
        """Number of members whose activations fit into memory at batch size 64, at most `TOGETHER`.

        At larger batches a GPU may run out of memory; its members are then computed one after another.
        """
        allowed = torch.cuda.mem_get_info(self.device)[0] // 2 if self.device.type == "cuda" else CPU_MEMORY
        return max(1, min(TOGETHER, allowed // (64 * self._activation_bytes())))

    def _activation_bytes(self) -> int:
        """Bytes per image that one member keeps for the backward pass, doubled to allow for temporaries."""
        kept = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel() * tensor.element_size() if tensor.shape[:1] == images.shape[:1] else 0
            return tensor

        weights = {
            name: value.detach().expand(2, *value.shape).clone() for name, value in self.network.state_dict().items()
        }
        parameters = {name: value.requires_grad_() for name, value in weights.items() if name in self.task.parameters}
        images = self.task.augmenter.normalise(self.task.images["train"][:2])
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            self.loss(parameters, {name: weights[name] for name in self.task.buffers}, (
                self._for_all(images, 2), self.task.labels["train"][:2].expand(2, -1),
            ))  # fmt: skip
        return 2 * kept // 4
