"""Task: the one seam between the paper's two settings.

Trainer, pruning, LMC and CKA know only this interface; what needs no torch knows only `three_regime.settings.Setting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, device

    from three_regime.config import Training
    from three_regime.pruning.masks import Masks
    from three_regime.random_streams import Streams
    from three_regime.system.files import Arrays
    from three_regime.tasks.pack_sizes import Lockstep

Split = Literal["train", "test"]
Weights = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Metrics:
    """Error (fraction) and mean negative log-likelihood (nats) of one network on one split: by image, or by token."""

    error: float
    nll: float


class Epoch(Protocol):
    """The batches of one epoch of one member, in order."""

    steps: int

    def micro_batches(self, step: int) -> tuple[Any, ...]:
        """The batches, each ready for `Task.loss`, whose gradients make up step 0 … steps − 1.

        More than one where a step accumulates gradients (`Training.accumulate`). A batch carries all its random
        choices (augmentation, the seed of its dropout), so that a second pass over it repeats them.
        """


class Task(Protocol):
    """What a setting supplies.

    The split called ``test`` is the one that the paper's figures show: the test images, or the validation pairs of a
    translation corpus.

    Attributes
    ----------
    unit
        What a training step is counted in, for progress lines: ``images``, ``tokens``.
    device
        Where data and computation live.
    parameters, buffers
        Shapes of the trained tensors and of the others (BatchNorm statistics), in a fixed order.
    prunable
        Names of the parameters that pruning may remove.
    comparable
        The most training inputs that `outputs` can take: images, or target tokens of the measured pairs.
    """

    unit: str
    device: device
    parameters: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, tuple[int, ...]]
    prunable: tuple[str, ...]

    @property
    def comparable(self) -> int: ...

    def initial_weights(self, streams: Streams) -> Arrays:
        """Fresh parameters and buffers from the stream ``initialisation``."""

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
        """Weights on the device; ``UserError`` naming `source` when they are of another architecture."""

    def epoch(self, streams: Streams, epoch: int, training: Training) -> Epoch:
        """Batches of an epoch (0-based), from that epoch's named streams; every epoch has equally many steps."""

    def loss(self, parameters: Weights, buffers: Weights, batch: Any) -> tuple[Tensor, Tensor, int]:
        """Mean loss (with gradient), errors and targets of one batch, in training mode; updates `buffers`."""

    def targets(self, batch: Any) -> int:
        """The targets of a batch, as `loss` counts them: images, or target tokens without padding."""

    def halves(self, batch: Any) -> tuple[Any, Any] | None:
        """Two batches that together are `batch`, for a device that cannot hold it; None when it must stay whole.

        It must where an example's output depends on its neighbours (BatchNorm), and where it is a single example.
        Tasks that divide have no buffers that `loss` updates.
        """

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """Error and NLL in evaluation mode, un-augmented, on the first `images` of a split (None: all)."""

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """`weights` with statistics re-estimated on training data, where the model has any."""

    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield ``logits``, then ``softmax``, (n, features) each, on the first `images` training inputs (for CKA).

        One after another, so that no more than one need stand in memory.
        """

    def scores(self, weights: Weights, splits: Sequence[str] = ("validation", "test")) -> dict[str, Any]:
        """What else is measured once for each delivered checkpoint: BLEU of translations; {} for images."""


class Stack(Protocol):
    """Several networks of a task advanced together.

    Every tensor has a leading dimension, one row a network. On a CPU the numbers of a row must not depend on the
    other rows, nor on how many there are.

    Attributes
    ----------
    together
        Whether rows are computed in common operations; recorded, because that rounds differently.
    width
        Most members at a time.
    """

    device: device
    together: bool
    width: int

    def rows(self, members: int) -> int:
        """Rows to compute for so many members; those beyond repeat the last member and are thrown away."""

    def epoch(self, streams: Sequence[Streams], epoch: int, training: Training) -> Epoch:
        """As `Task.epoch`, for the rows with these streams."""

    def loss(self, parameters: Weights, buffers: Weights, batch: Any) -> tuple[Tensor, Tensor, int]:
        """Mean loss and errors of each row, (M,), and the targets of a row."""

    def targets(self, batch: Any) -> int:
        """The targets of a row, as `loss` counts them."""

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> list[Metrics]:
        """As `Task.evaluate`, for each row."""

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """As `Task.reestimate`, for each row."""


class SparseNetwork(Protocol):
    """A network whose masks are fixed, computed at a cost that follows what it keeps (``kernels/sparse.h``)."""

    def removed_are_zero(self, weights: Mapping[str, np.ndarray | Tensor]) -> bool:
        """Whether all removed weights are exactly 0: only then it computes what `Task` does."""

    def step(
        self,
        parameters: Tensor,
        momentum: Tensor,
        buffers: Weights,
        epoch: Epoch,
        step: int,
        training: Training,
        rate: float,
    ) -> tuple[Tensor, Tensor, int]:
        """A step of SGD on the kept weights and all other parameters, in place.

        Parameters
        ----------
        parameters, momentum
            (P,): all parameters in the order of `Task.parameters`.
        epoch, step
            Of `Task.epoch`; the batch is made here.

        Returns
        -------
        Mean loss and errors of the batch, (), and its number of targets.
        """

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """As `Task.evaluate`."""

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """As `Task.reestimate`."""

    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        """As `Task.outputs`."""


@runtime_checkable
class Sparsifiable(Protocol):
    """A task that can compute pruned networks so."""

    def sparse(self, masks: Masks) -> SparseNetwork | None:
        """The network with these masks (name → bool array), or None where it is not possible or does not pay."""


@runtime_checkable
class TwiceDifferentiable(Protocol):
    """A task whose loss in evaluation mode has second derivatives."""

    parameters: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, tuple[int, ...]]

    def evaluation_losses(self, parameters: Weights, buffers: Weights, images: int) -> Iterator[tuple[Tensor, int]]:
        """Summed loss and number of targets of each batch of the first `images` training inputs, un-augmented.

        By operations that can be differentiated twice.
        """


@runtime_checkable
class Stackable(Protocol):
    """A task that can advance several networks together."""

    def stack(self, choice: Lockstep) -> Stack | None:
        """How, or None where the setting or the network speaks against it."""
