"""Compare one gradient of a small pruned network from the sparse engine with torch's, to detect miscompilation."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from three_regime.kernels.graph import EPSILON, Graph
from three_regime.kernels.program import Program

_SIDE, _IMAGES, _CLASSES = 8, 5, 3
_SHAPES = {
    "a.weight": (4, 3, 3, 3), "b.weight": (16, 4, 3, 3), "s.weight": (16, 4, 1, 1), "c.weight": (16, 16, 3, 3),
    "m.weight": (4,), "m.bias": (4,), "n.weight": (16,), "n.bias": (16,), "o.weight": (16,), "o.bias": (16,),
    "f.weight": (_CLASSES, 16), "f.bias": (_CLASSES,),
}  # fmt: skip


def sparse_engine_works(functions: ctypes.CDLL) -> bool:
    """Whether gradients of every kind of convolution, sparse and Winograd, equal torch's within rounding."""
    graph = Graph(3, _SIDE)
    first = graph.convolution(graph.image, "a", 4)
    hidden = graph.convolution(first, "b", 16, norm="m", stride=2)
    shortcut = graph.convolution(first, "s", 16, kernel=1, stride=2)
    last = graph.convolution(hidden, "c", 16, norm="n", beside=shortcut)
    graph.head(last, "o", "f", _CLASSES)
    weights = {
        name: np.cos(np.arange(np.prod(shape)) * 0.7 + index).astype(np.float32).reshape(shape)
        for index, (name, shape) in enumerate(_SHAPES.items())
    }
    masks = {name: np.abs(value) > 0.6 for name, value in weights.items() if value.ndim == 4}
    weights |= {name: weights[name] * mask for name, mask in masks.items()}
    pixels = (np.arange(_IMAGES * _SIDE**2 * 3) * 37 % 256).astype(np.uint8).reshape(_IMAGES, _SIDE, _SIDE, 3)
    levels = np.sin(np.arange(3 * 256, dtype=np.float32)).reshape(3, 256)
    labels = np.arange(_IMAGES) % _CLASSES
    parameters = np.concatenate([weights[name].ravel() for name in _SHAPES])
    statistics = [(np.zeros(channels, np.float32), np.ones(channels, np.float32)) for channels in (4, 16, 16)]
    images = np.stack([levels[channel][pixels[..., channel]] for channel in range(3)], 1)
    expected = _gradient(weights, masks, images, labels)

    def gradient(*winograd: str) -> np.ndarray:
        program = Program(
            functions, graph, _SHAPES, masks, images=_IMAGES, threads=1, training=True, winograd=winograd
        )  # fmt: skip
        program.run(
            "gradient", parameters=parameters, statistics=statistics, pixels=pixels, levels=levels, labels=labels,
            count=_IMAGES,
        )  # fmt: skip
        return program.dense_gradient(len(parameters))

    most = 1e-3 * np.linalg.norm(expected)
    return all(np.linalg.norm(found - expected) < most for found in (gradient(), gradient("c")))


def _gradient(weights: dict, masks: dict, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    with torch.enable_grad():
        leaves = {name: torch.from_numpy(value).double().requires_grad_() for name, value in weights.items()}

        def behind(norm: str, values: Tensor) -> Tensor:
            given = leaves[f"{norm}.weight"], leaves[f"{norm}.bias"]
            return F.relu(F.batch_norm(values, None, None, *given, True, 0.1, EPSILON))

        first = F.conv2d(torch.from_numpy(images).double(), leaves["a.weight"], padding=1)
        hidden = F.conv2d(behind("m", first), leaves["b.weight"], stride=2, padding=1)
        last = F.conv2d(behind("n", hidden), leaves["c.weight"], padding=1)
        last = last + F.conv2d(first, leaves["s.weight"], stride=2)
        logits = F.linear(behind("o", last).mean((2, 3)), leaves["f.weight"], leaves["f.bias"])
        gradients = torch.autograd.grad(F.cross_entropy(logits, torch.from_numpy(labels)), tuple(leaves.values()))
    kept = [gradient.numpy() * masks.get(name, 1.0) for name, gradient in zip(leaves, gradients, strict=True)]
    return np.concatenate([gradient.ravel() for gradient in kept])
