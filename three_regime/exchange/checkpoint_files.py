"""Read foreign checkpoints (the authors' PyTorch files, safetensors) without executing code stored in them.

The authors save ``{"state_dict": …, "epoch": …, "optimizer": …}`` of a model wrapped in ``DataParallel``, with pruned
weights as ``weight_orig`` and ``weight_mask`` (``torch.nn.utils.prune``), also for the classifier, whose mask is all
ones. The effective weight is their product.
"""

from __future__ import annotations

import itertools
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from three_regime.errors import Damaged, UserError
from three_regime.models.matching import short
from three_regime.pruning.masks import split_masks
from three_regime.system.files import Arrays, file_digest, read_arrays

if TYPE_CHECKING:
    import torch

STATE_DICT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "ema",
    "model_ema",
    "ema_state_dict",
    "averaged",
)
"""Keys searched for a state dict after the top level, recursively; weights come before their averages."""

WRAPPERS = frozenset(
    ("module", "_orig_mod", "model", "net", "network", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
)
"""Prefixes of names added by wrappers (DataParallel, torch.compile, Lightning, FSDP, …), in any order."""

_INSIDE = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Prefixes that also occur inside names, if a submodule was wrapped."""

_EXTRAS = frozenset(("n_averaged", "_extra_state"))
"""Last part of the names of entries that do not belong to the network."""

_WEIGHT, _ORIGINAL, _MASK = "weight", "weight_orig", "weight_mask"
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL (\S+)")
_DEEPEST = 4
_MOST_NUMBERS = 1 << 31
_NUMBERS_PER_BYTE = 1000
"""A file with more numbers than 1000 per byte is not a checkpoint (expanded views repeat a number)."""


@dataclass(frozen=True)
class ForeignCheckpoint:
    """The content of a checkpoint.

    Attributes
    ----------
    arrays
        Parameters and buffers by plain name; pruned weights are exactly zero.
    masks
        Weight name → boolean array, true where the weight is kept, for each ``weight_mask`` of the file (the
        classifier's too); None if the file has none.
    source_sha256
        SHA-256 of the file's bytes, hexadecimal.
    """

    arrays: Arrays
    masks: Arrays | None
    source_sha256: str


def read_foreign(path: Path) -> ForeignCheckpoint:
    """Read a ``.safetensors`` file or one written by ``torch.save`` (``.pt``, ``.pth``, ``.tar``, …).

    The state dict may be the whole content or be nested under ``STATE_DICT_KEYS``. Prefixes in ``WRAPPERS`` and entries
    that do not belong to the network are removed; ``weight_orig`` and ``weight_mask`` become ``weight``. Sparse tensors
    become dense, bfloat16 becomes float32.

    Raises
    ------
    UserError
        When the file is missing, damaged (a part does not match its checksum) or of another kind; contains Python
        objects other than tensors, no state dict, or tensors that cannot be weights (quantised, complex, on the meta
        device); or its masks do not match its weights. The message names the file and says what to save instead.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} is missing or is not a file")
    try:
        digest = file_digest(path)
        found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read: {error.strerror or error}") from error
    arrays, masks = _merged(_unwrapped(found, path), path)
    return ForeignCheckpoint(arrays, masks or None, digest)


def _read_safetensors(path: Path) -> Arrays:
    try:
        return read_arrays(path)
    except Damaged as error:  # its advice is for a result of this project, which can be computed again
        raise UserError(f"checkpoint {error.what}; fetch or make it again") from error
    except (TypeError, AttributeError):  # a number type that NumPy lacks
        from safetensors.torch import load_file

        return _as_arrays(load_file(path), path)


def _read_torch(path: Path) -> Arrays:
    import torch

    _check_checksums(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged input makes the unpickler fail in any way, IndexError included
        refused = _FORBIDDEN_GLOBAL.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        complaint = (
            f"holds Python objects besides tensors ({refused[1].rstrip('.,')}) and reading them could run code; "
            "where it was made, save the weights alone: torch.save(model.state_dict(), file)"
            if refused
            else "is damaged or was not written by torch.save; fetch or make it again"
        )
        raise UserError(f"checkpoint {path} {complaint}") from error
    found = _state_dict(content)
    if found is None:
        places = ", ".join(STATE_DICT_KEYS)
        raise UserError(f"checkpoint {path} holds no state dict, neither at its top level nor under {places}")
    return _as_arrays({name: value for name, value in found.items() if isinstance(value, torch.Tensor)}, path)


def _check_checksums(path: Path) -> None:
    """Check the checksums in the zip file written by torch.save, which torch.load does not check."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(f"checkpoint {path} is damaged ({error}); fetch or make it again") from error
    if wrong is not None:
        raise UserError(f"checkpoint {path} is damaged: its part {wrong} does not match its checksum; fetch it again")


def _state_dict(content: Any, depth: int = 0) -> Mapping[str, Any] | None:
    """The first mapping from names to tensors, at the top or nested under ``STATE_DICT_KEYS``; it may contain scalars
    and None."""
    import torch

    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return None
    tensors = [isinstance(value, torch.Tensor) for value in content.values()]
    plain = (
        tensor or value is None or isinstance(value, bool | int | float | str) or str(name).endswith("_extra_state")
        for tensor, (name, value) in zip(tensors, content.items(), strict=True)
    )
    if any(tensors) and all(isinstance(name, str) for name in content) and all(plain):
        return content
    below = (_state_dict(content[key], depth + 1) for key in STATE_DICT_KEYS if key in content)
    return next((found for found in below if found is not None), None)


def _as_arrays(tensors: Mapping[str, torch.Tensor], path: Path) -> Arrays:
    """Convert tensors to arrays; sparse tensors become dense.

    Raises
    ------
    UserError
        When a tensor cannot hold weights; the message names it.
    """
    most = min(_MOST_NUMBERS, _NUMBERS_PER_BYTE * path.stat().st_size)
    if (count := sum(tensor.numel() for tensor in tensors.values())) > most:
        raise UserError(f"checkpoint {path} expands to {count:,} numbers, too many for its size; save plain tensors")
    arrays = {}
    for name, tensor in tensors.items():
        if complaint := _unreadable(tensor):
            raise UserError(f"checkpoint {path}: {short(name)} {complaint}")
        try:
            arrays[name] = _as_array(tensor)
        except (RuntimeError, TypeError, NotImplementedError, ValueError) as error:
            raise UserError(
                f"checkpoint {path}: {short(name)} cannot be read as numbers; save it as float32"
            ) from error
    return arrays


def _unreadable(tensor: torch.Tensor) -> str:
    """Why a tensor cannot hold weights, and what to save instead; empty if it can."""
    if tensor.is_meta:
        return "holds no values (it is on the meta device); load the weights before saving them"
    if tensor.is_quantized:
        return "is quantised; save the network as it was before, in float32"
    if tensor.is_complex():
        return "holds complex numbers; save real ones, in float32"
    if tensor.is_floating_point() and tensor.dtype.itemsize < 2:
        return f"holds {str(tensor.dtype).removeprefix('torch.')}, which means little without its scales; save float32"
    if tensor.is_nested:
        return "is a nested tensor; save plain ones"
    return ""


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    import torch

    dense = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
    # NumPy has no bfloat16; float32 holds its values exactly.
    return (dense.float() if dense.dtype is torch.bfloat16 else dense).numpy()


def _unwrapped(arrays: Arrays, path: Path) -> Arrays:
    """Remove prefixes that wrappers add to names, and their own entries."""
    parts = {name: name.split(".") for name in arrays}
    own = {
        name: found for name, found in parts.items() if found[-1] not in _EXTRAS or not WRAPPERS.issuperset(found[:-1])
    }
    shared = next(iter(own.values()), [])[:-1]
    shared = list(itertools.takewhile(WRAPPERS.__contains__, shared))
    for found in own.values():
        same = itertools.takewhile(lambda both: both[0] == both[1], zip(shared, found[:-1], strict=False))
        shared = [part for part, _ in same]
    result: Arrays = {}
    for name, found in own.items():
        plain = ".".join(part for part in found[len(shared) :] if part not in _INSIDE)
        if plain in result:
            raise UserError(f"checkpoint {path} holds {short(plain)} twice, once of them as {short(name)}")
        result[plain] = arrays[name]
    return result


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
            case "weight" if prefix + _ORIGINAL in found:
                raise UserError(f"checkpoint {path}: {prefix}{_ORIGINAL} and {name} cannot both be the weights")
            case _:
                arrays[name] = array
    return arrays, masks


def own_weights(checkpoint: Path, title: str) -> Arrays:
    """Read the weights of a checkpoint of this project, without masks, since pruned weights are zero.

    Parameters
    ----------
    title
        `Setting.title` of the checkpoint, for the ``UserError`` raised for other formats.
    """
    if checkpoint.suffix != ".safetensors":
        raise UserError(f"{checkpoint} is not a .safetensors file, the only format of {title} checkpoints")
    return split_masks(read_arrays(checkpoint))[0]
