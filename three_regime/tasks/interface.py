"""`Task`: the interface between the method and the paper's two settings.

Trainer, pruning, LMC and CKA use only this interface; code without torch uses only `three_regime.settings.Setting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, device

    from three_regime.config import Training
    from three_regime.kernels import Kernels
    from three_regime.pruning.masks import Masks
    from three_regime.random_streams import Streams
    from three_regime.system.files import Arrays
    from three_regime.tasks.pack_sizes import Lockstep

Split = Literal["train", "test"]
Weights = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Metrics:
    """Error (fraction) and mean negative log-likelihood (nats) of a network on a split, per image or per token."""

    error: float
    nll: float


class Epoch(Protocol):
    """The batches of one epoch of one member, in order."""

    steps: int

    def micro_batches(self, step: int) -> tuple[Any, ...]:
        """The micro-batches of a step (0 … steps − 1), each an argument of `Task.loss`.

        More than one if a step accumulates gradients (`Training.accumulate`). A batch carries all its random choices
        (augmentation, dropout seed), so a second pass repeats them.
        """


class Task(Protocol):
    """Data, model, loss and metrics of a setting.

    The split ``test`` is the one in the paper's figures: the test images, or the validation pairs of a translation
    corpus.

    Attributes
    ----------
    unit
        Unit of throughput in progress lines: ``images`` or ``tokens``.
    device
        Device of data and computation.
    parameters, buffers
        Shapes of the trained tensors and of the other tensors (BatchNorm statistics), in a fixed order.
    prunable
        Names of the parameters that pruning may remove.
    comparable
        Number of training inputs available for `outputs`: images, or target tokens of the measured pairs.
    """

    unit: str
    device: device
    parameters: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, tuple[int, ...]]
    prunable: tuple[str, ...]

    @property
    def comparable(self) -> int: ...

    def initial_weights(self, streams: Streams) -> Arrays:
        """Initial parameters and buffers, drawn from the stream ``initialisation``."""

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
        """Move weights to the device; raise ``UserError`` naming `source` if they are of another architecture."""

    def epoch(self, streams: Streams, epoch: int, training: Training) -> Epoch:
        """Batches of an epoch (0-based), drawn from that epoch's named streams; all epochs have as many steps."""

    def loss(self, parameters: Weights, buffers: Weights, batch: Any) -> tuple[Tensor, Tensor, int]:
        """Mean loss (differentiable), errors and number of targets of a batch in training mode; updates `buffers`."""

    def targets(self, batch: Any) -> int:
        """Number of targets of a batch as counted by `loss`: images, or target tokens without padding."""

    def halves(self, batch: Any) -> tuple[Any, Any] | None:
        """Split `batch` into two, for a device that cannot hold it; None if it is indivisible.

        It is indivisible if outputs depend on the other examples (BatchNorm), or if it is a single example. Tasks that
        split batches have no buffers that `loss` updates.
        """

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """Error and NLL in evaluation mode, un-augmented, on the first `images` of a split (None: all)."""

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """`weights` with BatchNorm statistics re-estimated on training data, if the model has any."""

    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield ``logits``, then ``softmax``, of shape (n, features), on the first `images` training inputs (for CKA).

        One after another, so only one need be in memory.
        """

    def scores(self, weights: Weights, splits: Sequence[str] = ("validation", "test")) -> dict[str, Any]:
        """Further scores of a delivered checkpoint: BLEU for translation, {} for images."""


class Stack(Protocol):
    """Several networks of a task computed together.

    Every tensor has a leading dimension with one row per network. On a CPU the numbers of a row must not depend on the
    other rows or their count.

    Attributes
    ----------
    together
        Whether rows are computed in joint operations; recorded, because rounding depends on it.
    width
        Maximum number of members at a time.
    computed_with
        Kernels recorded as provenance; None: those of the process.
    """

    device: device
    together: bool
    width: int
    computed_with: Kernels | None

    def rows(self, members: int) -> int:
        """Number of rows to compute for `members`; extra rows repeat the last member and are discarded."""

    def epoch(self, streams: Sequence[Streams], epoch: int, training: Training) -> Epoch:
        """As `Task.epoch`, for rows with these streams."""

    def loss(self, parameters: Weights, buffers: Weights, batch: Any) -> tuple[Tensor, Tensor, int]:
        """Mean loss and number of errors of each row, (M,), and the number of targets per row."""

    def targets(self, batch: Any) -> int:
        """Number of targets per row, as counted by `loss`."""

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> list[Metrics]:
        """As `Task.evaluate`, for each row."""

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """As `Task.reestimate`, for each row."""


class SparseNetwork(Protocol):
    """A network with fixed masks, computed at a cost proportional to its kept weights (``kernels/sparse.h``).

    Attributes
    ----------
    computed_with
        Kernels recorded as provenance.
    """

    computed_with: Kernels

    def removed_are_zero(self, weights: Mapping[str, np.ndarray | Tensor]) -> bool:
        """Whether all pruned weights are exactly 0; otherwise results would differ from `Task`."""

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
        """Make an SGD step on the kept weights and all other parameters, in place.

        Parameters
        ----------
        parameters, momentum
            Shape (P,): all parameters in the order of `Task.parameters`.
        epoch, step
            An epoch of `Task.epoch` and a step in it; the batch is assembled here.

        Returns
        -------
        Mean loss and number of errors of the batch, shape (), and its number of targets.
        """

    def evaluate(self, weights: Weights, split: Split, images: int | None = None) -> Metrics:
        """As `Task.evaluate`."""

    def reestimate(self, weights: Weights, batch_size: int, images: int | None = None) -> dict[str, Tensor]:
        """As `Task.reestimate`."""

    def outputs(self, weights: Weights, images: int) -> Iterator[tuple[str, np.ndarray]]:
        """As `Task.outputs`."""


@runtime_checkable
class Sparsifiable(Protocol):
    """A task with an engine for pruned networks, and for dense ones where it is faster."""

    def sparse(self, masks: Masks, only: Kernels | None = None) -> SparseNetwork | None:
        """The network with these masks (name → bool array); None if it is unsupported or not faster.

        ``only="sparse"`` excludes Winograd convolutions, to continue a run without them; other values do not restrict.
        """


@runtime_checkable
class TwiceDifferentiable(Protocol):
    """A task whose loss in evaluation mode has second derivatives."""

    parameters: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, tuple[int, ...]]

    def evaluation_losses(self, parameters: Weights, buffers: Weights, images: int) -> Iterator[tuple[Tensor, int]]:
        """Yield summed loss and number of targets of each batch of the first `images` training inputs, un-augmented.

        The loss can be differentiated twice.
        """


@runtime_checkable
class Stackable(Protocol):
    """A task that can compute several networks together."""

    def stack(self, choice: Lockstep) -> Stack | None:
        """The stack, or None if the setting or the network does not allow it."""
