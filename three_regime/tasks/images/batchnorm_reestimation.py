"""BatchNorm re-estimation (authors' code), applied to every point of an LMC line before it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


@contextmanager
def averaging(norms: Sequence[nn.BatchNorm2d], batches: Iterable[Batch]) -> Iterator[Iterator[Batch]]:
    """Yield the batches, and set the momentum so the running statistics become plain averages over them.

    With momentum n/N, where N counts the images up to and including a batch of n, the running mean and unbiased
    variance are averages of the batch statistics weighted by batch size. The network must be in training mode with
    running statistics of zero. The momenta are restored on exit.

    Parameters
    ----------
    norms
        BatchNorm layers to re-estimate.
    batches
        Un-augmented training images and labels, in file order.
    """
    usual = [norm.momentum for norm in norms]
    try:
        yield _weighted(norms, batches)
    finally:
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum


def _weighted(norms: Sequence[nn.BatchNorm2d], batches: Iterable[Batch]) -> Iterator[Batch]:
    seen = 0
    for images, labels in batches:
        seen += len(labels)
        for norm in norms:
            norm.momentum = len(labels) / seen
        yield images, labels
