"""What to say when a GPU runs out of memory where nothing smaller can be computed. No torch until that happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from three_regime.errors import UserError


def in_short(error: Exception) -> str:
    """The first two sentences of torch's message: how much was wanted, and of how much."""
    return ". ".join(str(error).split(". ")[:2])


@contextlib.contextmanager
def refused(what: str, advice: str) -> Iterator[None]:
    """Turn running out of GPU memory inside the block into one sentence.

    Parameters
    ----------
    what
        What was computed.
    advice
        What to change, beside freeing memory.

    Raises
    ------
    UserError
        When the GPU runs out of memory.
    """
    try:
        yield
    except RuntimeError as error:
        from torch.cuda import OutOfMemoryError

        if not isinstance(error, OutOfMemoryError):
            raise
        raise UserError(
            f"{what}: the GPU ran out of memory ({in_short(error)}); free memory on it or use a larger one, {advice}"
        ) from error
