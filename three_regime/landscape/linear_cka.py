"""Linear CKA: similarity of the outputs of two networks (Kornblith et al. 2019; paper, section 3.1).

It is computed in one of two equivalent forms: from p × q feature products, for few classes; or from n × n Gram matrices
of the n inputs, for a vocabulary of 32,000 words, where outputs are reduced to a Gram matrix at once and are never
stored as float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from three_regime.errors import UserError


class Undefined(UserError):
    """CKA is undefined: the outputs of a network are constant."""


BLOCK = 1024
"""Number of columns added to a Gram matrix at a time."""


@dataclass(frozen=True)
class Gram:
    """Gram matrix of centred outputs, (n, n) float64, which is sufficient for linear CKA."""

    matrix: np.ndarray

    def __len__(self) -> int:
        return len(self.matrix)


Outputs = np.ndarray | Gram


def condensed(outputs: np.ndarray) -> Outputs:
    """Return `outputs` (n, p), or their Gram matrix if that is smaller."""
    return gram(outputs) if len(outputs) < outputs.shape[1] else outputs


def condensed_kinds(outputs: Iterable[tuple[str, np.ndarray]]) -> dict[str, Outputs]:
    """Condense each kind of a network's outputs as it is produced (`Task.outputs`)."""
    return {kind: condensed(found) for kind, found in outputs}


def gram(outputs: np.ndarray) -> Gram:
    """Gram matrix of outputs (n, p), centred by column; computed in blocks of columns."""
    matrix = np.zeros((len(outputs), len(outputs)))
    for first in range(0, outputs.shape[1], BLOCK):
        block = _centred(outputs[:, first : first + BLOCK])
        matrix += block @ block.T
    return Gram(matrix)


def _centred(outputs: np.ndarray) -> np.ndarray:
    """`outputs` (n, p) as float64, each column minus its mean; exactly 0 if all rows are equal.

    The mean of equal numbers can differ from them by rounding, and CKA of what remains would not be undefined.
    """
    outputs = np.asarray(outputs, dtype=np.float64)
    return outputs - (outputs[0] if (outputs == outputs[0]).all() else outputs.mean(axis=0))


def linear_cka(first: Outputs, second: Outputs) -> float:
    """Linear centred kernel alignment (CKA).

    ``‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖)`` with centred columns and Frobenius norms, or equivalently ``⟨K, L⟩ / (‖K‖ ‖L‖)`` with
    Gram matrices K and L.

    Parameters
    ----------
    first, second
        Outputs on the same n ≥ 2 inputs, shapes (n, p) and (n, q), or their Gram matrices.

    Returns
    -------
    A number in [0, 1]: 1 for equal outputs, invariant to rotation and isotropic scaling of either.

    Raises
    ------
    Undefined
        When the outputs of a network are constant.
    UserError
        When the numbers of rows differ, or an output is not finite.
    """
    if len(first) != len(second) or len(first) < 2:
        raise UserError(f"CKA needs outputs on the same two or more inputs, not {len(first)} and {len(second)}")
    if isinstance(first, Gram) or isinstance(second, Gram):
        # By ‖YᵀX‖² = ⟨XXᵀ, YYᵀ⟩, the Gram matrices give the same value.
        grams = [each.matrix if isinstance(each, Gram) else gram(each).matrix for each in (first, second)]
        scale, product = np.prod([np.linalg.norm(each) for each in grams]), np.vdot(*grams)
    else:
        # 1. Centre the columns: CKA is invariant to a constant shift of the outputs.
        x, y = _centred(first), _centred(second)
        # 2. Cross-products, and the norms that make CKA invariant to scale.
        scale, product = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y), np.linalg.norm(y.T @ x) ** 2
    if not np.isfinite(scale):
        raise UserError("CKA is undefined: a network's outputs are not finite")
    if scale == 0:
        raise Undefined("CKA is undefined: a network's outputs are constant")
    return float(product / scale)


def similarity(
    first: Mapping[str, Outputs], second: Mapping[str, Outputs], inputs: str = "images"
) -> dict[str, float | int]:
    """CKA of each kind of output (``logits``, ``softmax``), and the number of `inputs` it is computed on.

    NaN where it is undefined: a network that has collapsed gives one answer to every input.
    """
    found: dict[str, float | int] = {}
    for kind in first:
        try:
            found[kind] = linear_cka(first[kind], second[kind])
        except Undefined:
            found[kind] = float("nan")
    return {**found, inputs: len(next(iter(first.values())))}
