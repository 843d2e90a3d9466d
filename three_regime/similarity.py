"""Linear CKA: how similar two networks' outputs are (Kornblith et al. 2019; paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from three_regime.errors import UserError


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment, computed in feature space.

    ``‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖)`` with centred columns equals the Gram-matrix form and never builds an n × n matrix.

    Parameters
    ----------
    first, second
        Outputs on the same n inputs, shapes (n, p) and (n, q), n ≥ 2.

    Returns
    -------
    A number in [0, 1]: 1 for equal outputs, unchanged by rotation and scaling of either.

    Raises
    ------
    UserError
        When the numbers of rows differ, or an output is constant or not finite (CKA is then undefined).
    """
    if len(first) != len(second) or len(first) < 2:
        raise UserError(f"CKA needs outputs on the same two or more inputs, not {len(first)} and {len(second)}")
    x, y = (np.asarray(outputs, dtype=np.float64) for outputs in (first, second))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    if not np.isfinite(scale) or scale == 0:
        raise UserError("CKA is undefined: a network's outputs are constant or not finite")
    return float(np.linalg.norm(y.T @ x) ** 2 / scale)


def similarity(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict[str, float | int]:
    """CKA of each kind of output (``logits``, ``softmax``), and the number of ``images`` it was computed on."""
    images = len(next(iter(first.values())))
    return {**{kind: linear_cka(first[kind], second[kind]) for kind in first}, "images": images}
