"""Re-estimation of BatchNorm's statistics (A): what every point of an LMC line is given before it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


def averaging(norms: Sequence[nn.BatchNorm2d], batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield each batch of images and labels with the momentum that makes the running statistics a plain average.

    With momentum n/N, N images after this batch of n, the running mean and unbiased variance are the averages of the
    batches' own, weighted by batch size. The networks must be in training mode and their statistics zero at first;
    the momenta are put back at the end.

    Parameters
    ----------
    norms
        The BatchNorm layers whose statistics are re-estimated.
    batches
        Images and labels of the un-augmented training set, in file order.
    """
    seen = 0
    with _momenta_put_back(norms):
        for images, labels in batches:
            seen += len(labels)
            for norm in norms:
                norm.momentum = len(labels) / seen
            yield images, labels


@contextmanager
def _momenta_put_back(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    usual = [norm.momentum for norm in norms]
    try:
        yield
    finally:
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
