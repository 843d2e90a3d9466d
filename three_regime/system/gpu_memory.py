"""Handle GPU out-of-memory errors: retry with less, or report them in one sentence.

Torch is imported only when an error occurs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from three_regime.errors import UserError

Value = TypeVar("Value")


def attempt(compute: Callable[[], Value], otherwise: Callable[[str], Value]) -> Value:
    """Return ``compute()``; if the GPU runs out of memory, free it and return ``otherwise(reason)``.

    Raises
    ------
    Exception
        Any other exception of either function.
    """
    try:
        return compute()
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        reason = _in_short(error)
    # Outside the handler, because the exception's traceback keeps the tensors of the failed pass alive.
    import torch

    torch.cuda.empty_cache()
    return otherwise(reason)


def _is_out_of_memory(error: RuntimeError) -> bool:
    from torch.cuda import OutOfMemoryError

    return isinstance(error, OutOfMemoryError)


def _in_short(error: Exception) -> str:
    """The first two sentences of torch's message: requested and total memory."""
    return ". ".join(str(error).split(". ")[:2])


@contextlib.contextmanager
def refused(what: str, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error inside the block into a `UserError`.

    Parameters
    ----------
    what
        Name of the computation.
    advice
        What to change, besides freeing memory.

    Raises
    ------
    UserError
        When the GPU runs out of memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(
            f"{what}: the GPU ran out of memory ({_in_short(error)}); free memory on it or use a larger one, {advice}"
        ) from error
