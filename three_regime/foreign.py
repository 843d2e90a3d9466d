"""Checkpoints from elsewhere: the authors' PyTorch files, or safetensors, read without running code stored in them.

The authors save ``{"state_dict": …, "epoch": …, "optimizer": …}`` of a model wrapped in ``DataParallel``, and pruned
weights as ``weight_orig`` with ``weight_mask`` (``torch.nn.utils.prune``); the classifier has such a pair too, its
mask all ones. What their network computes with is the product.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from three_regime.errors import UserError
from three_regime.storage import Arrays, file_sha256, read_arrays

if TYPE_CHECKING:
    import torch

STATE_DICT_KEYS = ("state_dict", "model", "net", "model_state_dict")
"""Where a state dict is looked for, after the top level."""

_WRAPPER = "module."
_WEIGHT, _ORIGINAL, _MASK = "weight", "weight_orig", "weight_mask"
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL (\S+)")
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Foreign:
    """The content of a checkpoint.

    Attributes
    ----------
    arrays
        Parameters and buffers by plain name; pruned weights are exactly zero.
    masks
        Weight name → boolean array, true where the weight is kept, for each ``weight_mask`` of the file (the
        classifier's too); ``None`` when the file has none.
    source_sha256
        Hexadecimal digest of the file's bytes.
    """

    arrays: Arrays
    masks: Arrays | None
    source_sha256: str


def read_foreign(path: Path) -> Foreign:
    """Read a ``.safetensors`` file or one written by ``torch.save`` (``.pt``, ``.pth``, ``.tar``, …).

    The state dict may be the whole content or stand under one of ``STATE_DICT_KEYS``. ``module.`` before every name
    is removed; ``weight_orig`` and ``weight_mask`` become ``weight``.

    Raises
    ------
    UserError
        When the file is missing, damaged, of another kind, holds Python objects besides tensors, holds no state dict,
        or its masks do not fit its weights; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} is missing or is no file")
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    arrays, masks = _merged(_unwrapped(found), path)
    return Foreign(arrays, masks or None, file_sha256(path))


def _read_safetensors(path: Path) -> Arrays:
    try:
        return read_arrays(path)
    except TypeError as error:
        raise UserError(f"checkpoint {path} holds a number type that NumPy lacks ({error}); save float32") from error


def _read_torch(path: Path) -> Arrays:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged input makes the unpickler fail in any way, IndexError included
        refused = _FORBIDDEN_GLOBAL.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        complaint = (
            f"holds Python objects besides tensors ({refused[1].rstrip('.,')}) and reading them could run code; "
            "where it was made, save the weights alone: torch.save(model.state_dict(), file)"
            if refused
            else "is damaged or was not written by torch.save; fetch or make it again"
        )
        raise UserError(f"checkpoint {path} {complaint}") from error
    return {name: _as_array(tensor) for name, tensor in _state_dict(content, path).items()}


def _state_dict(content: Any, path: Path) -> Mapping[str, torch.Tensor]:
    import torch

    candidates = (content, *(content.get(key) for key in STATE_DICT_KEYS)) if isinstance(content, Mapping) else ()
    for candidate in candidates:
        values = candidate.values() if isinstance(candidate, Mapping) else ()
        if values and all(isinstance(value, torch.Tensor) for value in values):
            return candidate
    places = ", ".join(STATE_DICT_KEYS)
    raise UserError(f"checkpoint {path} holds no state dict, neither at its top level nor under {places}")


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    import torch

    # NumPy has no bfloat16; float32 holds its values exactly.
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()


def _unwrapped(arrays: Arrays) -> Arrays:
    while arrays and all(name.startswith(_WRAPPER) for name in arrays):
        arrays = {name.removeprefix(_WRAPPER): array for name, array in arrays.items()}
    return arrays


def _merged(found: Arrays, path: Path) -> tuple[Arrays, Arrays]:
    arrays: Arrays = {}
    masks: Arrays = {}
    for name, array in found.items():
        prefix, dot, last = name.rpartition(".")
        prefix += dot
        match last:
            case "weight_orig":
                mask = found.get(prefix + _MASK)
                if mask is None or mask.shape != array.shape or not np.isin(mask, (0, 1)).all():
                    raise UserError(
                        f"checkpoint {path}: {name} needs a {prefix}{_MASK} of its shape holding 0 and 1 only"
                    )
                masks[prefix + _WEIGHT] = mask.astype(bool)
                arrays[prefix + _WEIGHT] = np.where(mask, array, 0).astype(array.dtype)
            case "weight_mask":
                if prefix + _ORIGINAL not in found:
                    raise UserError(f"checkpoint {path}: {name} has no {prefix}{_ORIGINAL} beside it")
            case _:
                arrays[name] = array
    return arrays, masks


def match(arrays: Mapping[str, np.ndarray], model: torch.nn.Module, source: str | Path = "given") -> Arrays:
    """Check that `arrays` are the parameters and buffers of `model`, which itself is not changed.

    Parameters
    ----------
    arrays
        From ``read_foreign`` or ``storage.read_arrays``.
    model
        The network they should fit.
    source
        What to call the checkpoint in the message.

    Returns
    -------
    Arrays
        The same values in the order and with the types of ``model.state_dict()``.

    Raises
    ------
    UserError
        When names are missing or unexpected or shapes differ; at most three of each are named.
    """
    return fit(arrays, {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}, source)


def fit(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], source: str | Path = "given") -> Arrays:
    """Check that `arrays` have the names and shapes of `wanted`, and give them its order and types (see `match`)."""
    # torch before 0.4.1, and many exports, have no batch counter; nothing computes with it.
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
        *([f"missing {_some(missing)}"] if missing else []),
        *([f"unexpected {_some(unexpected)}"] if unexpected else []),
        *([_some(shapes)] if shapes else []),
    ]
    if complaints:
        raise UserError(f"checkpoint {source} is of another architecture: {'; '.join(complaints)}")
    return {name: arrays[name].reshape(like.shape).astype(like.dtype) for name, like in wanted.items()}


def _fits(array: np.ndarray, like: np.ndarray) -> bool:
    # Some writers store a scalar (BatchNorm's batch counter) as an array of one.
    return array.shape == like.shape or (like.shape == () and array.shape == (1,))


def _some(items: Iterable[str]) -> str:
    items = list(items)
    rest = len(items) - _NAMES_SHOWN
    return ", ".join(items[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
