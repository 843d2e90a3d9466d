"""Check foreign weights against an architecture: names, shapes and types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from three_regime.errors import UserError
from three_regime.system.files import Arrays

if TYPE_CHECKING:
    import torch


NAMES_SHOWN = 3
LONGEST_SHOWN = 80


def match(arrays: Mapping[str, np.ndarray], model: torch.nn.Module, source: str | Path = "given") -> Arrays:
    """Check that `arrays` are the parameters and buffers of `model`, which is not modified.

    Parameters
    ----------
    arrays
        Weights from ``read_foreign`` or ``files.read_arrays``.
    model
        The network they should match.
    source
        Name of the checkpoint in messages.

    Returns
    -------
    Arrays
        The same values in the order and with the dtypes of ``model.state_dict()``.

    Raises
    ------
    UserError
        When names are missing or unexpected, or shapes differ; the message lists at most three of each.
    """
    return fit(arrays, {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}, source)


def fit(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], source: str | Path = "given") -> Arrays:
    """Check that `arrays` have the names and shapes of `wanted`; return them in its order and dtypes (see `match`)."""
    # torch before 0.4.1 and many exports have no batch counter, which affects no result.
    counters = {name: np.zeros_like(like) for name, like in wanted.items() if name.endswith("num_batches_tracked")}
    arrays = {**counters, **arrays}
    missing = [name for name in wanted if name not in arrays]
    unexpected = [name for name in arrays if name not in wanted]
    shapes = [
        f"shape of {name} is {arrays[name].shape} instead of {like.shape}"
        for name, like in wanted.items()
        if name in arrays and not _fits(arrays[name], like)
    ]
    complaints = [
        *([f"missing {_some(map(short, missing))}"] if missing else []),
        *([f"unexpected {_some(map(short, unexpected))}"] if unexpected else []),
        *([_some(shapes)] if shapes else []),
    ]
    if complaints:
        advice = (
            "; remove the parametrisations (remove_parametrizations) before saving"
            if any("parametrizations" in name.split(".") for name in unexpected)
            else ""
        )
        raise UserError(f"checkpoint {source} is of another architecture: {'; '.join(complaints)}{advice}")
    for name, like in wanted.items():
        if like.dtype.kind == "f" and arrays[name].dtype.kind != "f":
            raise UserError(
                f"checkpoint {source}: {name} holds {arrays[name].dtype} where weights are real numbers; save float32"
            )
    return {name: arrays[name].reshape(like.shape).astype(like.dtype) for name, like in wanted.items()}


def _fits(array: np.ndarray, like: np.ndarray) -> bool:
    # Some writers store a scalar (BatchNorm's batch counter) as an array of one element.
    return array.shape == like.shape or (like.shape == () and array.shape == (1,))


def _some(items: Iterable[str]) -> str:
    items = list(items)
    rest = len(items) - NAMES_SHOWN
    return ", ".join(items[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def short(name: str) -> str:
    return name if len(name) <= LONGEST_SHOWN else f"{name[: LONGEST_SHOWN // 2]}…{name[-LONGEST_SHOWN // 2 :]}"
