"""Linear CKA: how similar two networks' outputs are (Kornblith et al. 2019; paper, section 3.1).

Two forms of one number. In feature space, p × q products of n outputs: for few classes. By Gram matrices, n × n: for a
vocabulary of 32,000 words, where outputs are condensed as soon as they are known and never stand in memory as float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from three_regime.errors import UserError

BLOCK = 1024
"""Columns that enter a Gram matrix at a time."""


@dataclass(frozen=True)
class Gram:
    """Products of centred outputs with each other, (n, n) float64: all that linear CKA needs of them."""

    matrix: np.ndarray

    def __len__(self) -> int:
        return len(self.matrix)


Outputs = np.ndarray | Gram


def condensed(outputs: np.ndarray) -> Outputs:
    """`outputs` (n, p) as they are, or their Gram matrix where that is smaller."""
    return gram(outputs) if len(outputs) < outputs.shape[1] else outputs


def condensed_kinds(outputs: Iterable[tuple[str, np.ndarray]]) -> dict[str, Outputs]:
    """Each kind of a network's outputs, condensed as it comes (`Task.outputs`)."""
    return {kind: condensed(found) for kind, found in outputs}


def gram(outputs: np.ndarray) -> Gram:
    """Gram matrix of outputs (n, p), centred by column; works through blocks of columns."""
    matrix = np.zeros((len(outputs), len(outputs)))
    for first in range(0, outputs.shape[1], BLOCK):
        block = outputs[:, first : first + BLOCK].astype(np.float64)
        block -= block.mean(axis=0)
        matrix += block @ block.T
    return Gram(matrix)


def linear_cka(first: Outputs, second: Outputs) -> float:
    """Linear centred kernel alignment.

    ``‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖)`` with centred columns, or, of Gram matrices K and L, ``⟨K, L⟩ / (‖K‖ ‖L‖)``: the same.

    Parameters
    ----------
    first, second
        Outputs on the same n ≥ 2 inputs, shapes (n, p) and (n, q), or their Gram matrices.

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
    if isinstance(first, Gram) or isinstance(second, Gram):
        # ‖YᵀX‖² = ⟨XXᵀ, YYᵀ⟩, so the n × n products say the same.
        grams = [each.matrix if isinstance(each, Gram) else gram(each).matrix for each in (first, second)]
        scale, product = np.prod([np.linalg.norm(each) for each in grams]), np.vdot(*grams)
    else:
        x, y = (np.asarray(outputs, dtype=np.float64) for outputs in (first, second))
        # Centred columns make CKA blind to a constant shift of the outputs; the norms, to their scale.
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        scale, product = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y), np.linalg.norm(y.T @ x) ** 2
    if not np.isfinite(scale) or scale == 0:
        raise UserError("CKA is undefined: a network's outputs are constant or not finite")
    return float(product / scale)


def similarity(
    first: Mapping[str, Outputs], second: Mapping[str, Outputs], inputs: str = "images"
) -> dict[str, float | int]:
    """CKA of each kind of output (``logits``, ``softmax``), and the number of `inputs` it was computed on."""
    count = len(next(iter(first.values())))
    return {**{kind: linear_cka(first[kind], second[kind]) for kind in first}, inputs: count}
