"""Sizes of networks from their names: parameters, buffers and multiply-adds, without torch.

Layers are counted by `three_regime.models.counting`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from three_regime.models import counting
from three_regime.models.families import FAMILIES, ModelSpec, parse_for

MAX_POSITIONS = 1024
"""Maximum length of a Transformer's sentences in subwords, including the end-of-sentence token (fairseq's default)."""


@dataclass(frozen=True)
class Size:
    """Size of a network.

    Attributes
    ----------
    parameters, prunable
        Number of parameters, and of prunable weights.
    tensors, prunable_tensors
        Number of tensors (parameters and buffers), and of prunable tensors.
    buffer_bytes
        Bytes of running means and variances (float32) and batch counters (int64).
    multiply_adds
        Multiply-adds of a forward pass per image (convolutions and classifier) or token (matrices and output).
    """

    parameters: int
    prunable: int
    tensors: int
    prunable_tensors: int
    buffer_bytes: int
    multiply_adds: int


UNCOUNTED = Size(0, 0, 0, 0, 0, 0)
"""Size of a network whose family does not count its layers."""


def size(model: ModelSpec | str, *, classes: int, channels: int, image_size: int) -> Size | None:
    """Size of a network for square images of side `image_size` with `channels` colour channels.

    None if its family does not count its layers (`three_regime.models.families.Family`).

    Raises
    ------
    UserError
        When the name is invalid.
    """
    spec = parse_for("images", model)
    layers = FAMILIES[spec.family].layers
    return layers and _sum(layers(spec.depth, spec.width, classes, channels, image_size))


def text_size(model: ModelSpec | str, *, vocabulary: int) -> Size:
    """Size of a Transformer whose joint dictionary has `vocabulary` entries; `multiply_adds` are those of one target
    and one source token (without attention scores, which grow with sentence length).

    Raises
    ------
    UserError
        When the name is invalid or is not a network for text.
    """
    spec = parse_for("text", model)
    return _sum(counting.transformer(spec.depth, int(spec.width), vocabulary, shared=spec.shared))


def _sum(layers: Iterable[counting.Layer]) -> Size:
    layers = list(layers)
    return Size(
        parameters=sum(layer.weights + layer.others for layer in layers),
        prunable=sum(layer.weights for layer in layers),
        tensors=sum(layer.tensors for layer in layers),
        prunable_tensors=sum(layer.weights > 0 for layer in layers),
        buffer_bytes=sum(8 * layer.norm_channels + 8 for layer in layers if layer.norm_channels),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
    )
