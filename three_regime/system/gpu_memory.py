"""When a GPU runs out of memory: something smaller is computed, or the error is said in a sentence.

No torch until that happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from three_regime.errors import UserError

Value = TypeVar("Value")


def attempt(compute: Callable[[], Value], otherwise: Callable[[str], Value]) -> Value:
    """`compute()`; when the GPU runs out of memory, `otherwise` of torch's reason, with the failed pass's memory freed.

    Raises
    ------
    Exception
        Whatever else either raises.
    """
    try:
        return compute()
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        reason = _in_short(error)
    # Outside the handler: the exception's traceback would hold on to the tensors of the failed pass.
    import torch

    torch.cuda.empty_cache()
    return otherwise(reason)


def _is_out_of_memory(error: RuntimeError) -> bool:
    from torch.cuda import OutOfMemoryError

    return isinstance(error, OutOfMemoryError)


def _in_short(error: Exception) -> str:
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
        if not _is_out_of_memory(error):
            raise
        raise UserError(
            f"{what}: the GPU ran out of memory ({_in_short(error)}); free memory on it or use a larger one, {advice}"
        ) from error
