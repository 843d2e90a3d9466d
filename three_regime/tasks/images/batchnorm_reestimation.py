"""Re-estimation of BatchNorm's statistics (A): what every point of an LMC line is given before it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


@contextmanager
def averaging(norms: Sequence[nn.BatchNorm2d], batches: Iterable[Batch]) -> Iterator[Iterator[Batch]]:
    """The batches, each given out with the momentum that makes the running statistics a plain average.

    With momentum n/N, N images after a batch of n, the running mean and unbiased variance are the averages of the
    batches' own, weighted by batch size. The networks must be in training mode and their statistics zero at first;
    the momenta are put back at the end, however it comes.

    Parameters
    ----------
    norms
        The BatchNorm layers whose statistics are re-estimated.
    batches
        Images and labels of the un-augmented training set, in file order.
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
