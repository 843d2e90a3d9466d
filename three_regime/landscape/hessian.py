"""Sharpness of a retrained network: top eigenvalue and trace of the Hessian of its training loss.

The loss is the mean cross-entropy on the first training examples, un-augmented, in evaluation mode with the network's
own BatchNorm statistics and without weight decay, as in PyHessian (Yao et al. 2020). The Hessian is restricted to the
parameters that training can change: kept weights, and all parameters that are never pruned. Removed weights would add
eigenvalues of another network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from three_regime.errors import Diverged, UserError
from three_regime.landscape.networks import Networks
from three_regime.pruning.masks import Masks
from three_regime.tasks.interface import TwiceDifferentiable, Weights

log = logging.getLogger(__name__)

Product = Callable[[np.ndarray], np.ndarray]

FEWEST_PROBES = 5
"""Minimum number of probes for the trace."""


def hessian_product(
    task: TwiceDifferentiable, weights: Mapping[str, Tensor], masks: Masks, images: int
) -> tuple[Product, int]:
    """Hessian-vector product, and the length of the vectors.

    Parameters
    ----------
    masks
        Name → bool array, True where the weight is kept; parameters without a mask are kept.
    images
        The loss is computed on the first `images` training examples, or all if there are fewer.

    Returns
    -------
    Function of a float64 vector over the kept parameters, in the order of `Task.parameters`, → its product with the
    Hessian: the derivative of the gradient along the vector (Pearlmutter 1994), exact up to rounding.
    """
    parameters = {name: weights[name].detach().clone().requires_grad_() for name in task.parameters}
    buffers = {name: weights[name] for name in task.buffers}
    kept = {
        name: torch.from_numpy(masks[name].ravel() if name in masks else np.ones(value.numel(), bool)).to(value.device)
        for name, value in parameters.items()
    }
    sizes = [int(mask.sum()) for mask in kept.values()]

    def product(vector: np.ndarray) -> np.ndarray:
        parts = np.split(np.asarray(vector, dtype=np.float64).ravel(), np.cumsum(sizes)[:-1])
        direction = [
            torch.zeros_like(value).flatten().masked_scatter(mask, torch.from_numpy(part).to(value)).view(value.shape)
            for (value, mask, part) in zip(parameters.values(), kept.values(), parts, strict=True)
        ]
        sums = [torch.zeros(size, dtype=torch.float64) for size in sizes]
        total = 0
        for loss, count in task.evaluation_losses(parameters, buffers, images):
            total += count
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            slope = sum((gradient * along).sum() for gradient, along in zip(gradients, direction, strict=True))
            second = torch.autograd.grad(slope, list(parameters.values()), materialize_grads=True)
            for so_far, found, mask in zip(sums, second, kept.values(), strict=True):
                so_far += found.flatten()[mask].double().cpu()
        return (torch.cat(sums) / total).numpy()

    return product, sum(sizes)


def top_eigenvalue(product: Product, size: int, rng: np.random.Generator, tolerance: float, restarts: int) -> float:
    """Algebraically largest eigenvalue, by ARPACK's implicitly restarted Lanczos method with a random start vector.

    Parameters
    ----------
    tolerance
        Relative accuracy of the eigenvalue.
    restarts
        Maximum number of restarts, about 20 products each.

    Raises
    ------
    Diverged
        When it does not converge in this number of restarts.
    """
    if size < 3:  # ARPACK cannot compute all eigenvalues
        return float(np.linalg.eigvalsh(np.stack([product(row) for row in np.eye(size)]))[-1])
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = rng.standard_normal(size)
    try:
        found = eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, maxiter=restarts, return_eigenvectors=False)
    except ArpackNoConvergence as error:
        raise Diverged(
            f"the top eigenvalue of the Hessian did not converge to relative accuracy {tolerance:g} in {restarts}"
            " restarts: increase measure.hessian.restarts or measure.hessian.tolerance"
        ) from error
    return float(found[0])


def trace(
    product: Product, size: int, rng: np.random.Generator, tolerance: float, probes: int
) -> tuple[float, float, int]:
    """Hutchinson's estimate of the trace: the mean of zᵀHz over vectors z of random signs.

    Parameters
    ----------
    tolerance
        Stop at this relative standard error, after at least `FEWEST_PROBES`.
    probes
        Maximum number of probes.

    Returns
    -------
    The estimate, its standard error, and the number of probes.
    """
    values: list[float] = []
    while True:
        signs = rng.integers(0, 2, size) * 2.0 - 1.0
        values.append(float(signs @ product(signs)))
        error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")
        enough = len(values) >= FEWEST_PROBES and error <= tolerance * abs(float(np.mean(values)))
        if enough or len(values) >= probes:
            return float(np.mean(values)), error, len(values)


def hessian_of(networks: Networks) -> dict[str, float | int]:
    """Top eigenvalue and trace of one replica; warns of a trace that is less accurate than the tolerance.

    Raises
    ------
    UserError
        When the task does not support second derivatives, or the eigenvalue does not converge.
    """
    task, settings = networks.task, networks.config.measure.hessian
    if not isinstance(task, TwiceDifferentiable):
        raise UserError("measure hessian: this setting does not support second derivatives of the loss")
    weights: Weights = networks.weights[0]
    product, size = hessian_product(task, weights, networks.masks, settings.images)
    rng = networks.streams.generator
    top = top_eigenvalue(product, size, rng("start"), settings.tolerance, settings.restarts)
    estimate, error, drawn = trace(product, size, rng("probes"), settings.trace_tolerance, settings.probes)
    if error > settings.trace_tolerance * abs(estimate):
        log.warning(
            "the trace of the Hessian has a relative standard error of %.1f %% after %d probes"
            " (measure.hessian.probes), more than the tolerance of %g %% (measure.hessian.trace_tolerance)",
            100 * error / abs(estimate) if estimate else float("inf"), drawn, 100 * settings.trace_tolerance,
        )  # fmt: skip
    return {
        "hessian_top": top,
        "hessian_trace": estimate,
        "hessian_trace_spread": error,
        "probes": drawn,
        "directions": size,
    }
