"""Masks of a pruned network: apply, count, and store them with the weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from three_regime.system.sparse_encoding import MASK_PREFIX

Masks = dict[str, np.ndarray]


def apply_masks(weights: Mapping[str, np.ndarray], masks: Masks) -> dict[str, np.ndarray]:
    """Set `weights` to zero where a mask is False; other arrays are unchanged."""
    return {name: np.where(masks[name], array, array.dtype.type(0)) if name in masks else array
            for name, array in weights.items()}  # fmt: skip


def sparsity(masks: Masks, parameters: int) -> dict[str, object]:
    """Exact counts of kept and total weights by layer and overall, and the resulting densities.

    Parameters
    ----------
    parameters
        Total number of parameters of the model, prunable or not.
    """
    layers = {name: {"kept": int(mask.sum()), "total": int(mask.size)} for name, mask in masks.items()}
    kept = sum(layer["kept"] for layer in layers.values())
    total = sum(layer["total"] for layer in layers.values())
    return {
        "kept": kept,
        "total": total,
        "density": kept / total,
        "model_density": (kept + parameters - total) / parameters,
        "layers": layers,
    }


def split_masks(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Masks]:
    """Split the tensors of a pruned checkpoint into weights and masks."""
    weights = {name: array for name, array in arrays.items() if not name.startswith(MASK_PREFIX)}
    masks = {name.removeprefix(MASK_PREFIX): array.astype(bool)
             for name, array in arrays.items() if name.startswith(MASK_PREFIX)}  # fmt: skip
    return weights, masks


def join_masks(weights: Mapping[str, np.ndarray], masks: Masks) -> dict[str, np.ndarray]:
    """Join weights and masks into the tensors of one checkpoint; masks are uint8 named ``mask:<name>``."""
    return {**weights, **{MASK_PREFIX + name: mask.astype(np.uint8) for name, mask in masks.items()}}
