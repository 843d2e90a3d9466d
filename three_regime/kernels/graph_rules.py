"""What the sparse engine would compute wrongly: rules for a whole `Graph`, of which each method sees only a part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from three_regime.kernels.graph import Graph, Layer, Unsupported


def check(graph: Graph) -> None:
    """Raise `Unsupported` if the engine would compute a network wrongly, or cannot lay it out in memory."""
    _check_names(graph.layers)
    for index, layer in enumerate(graph.layers):
        earlier, later = graph.layers[:index], graph.layers[index + 1 :]
        _check_norm(layer, earlier)
        _check_bias(layer, graph.layers)
        _check_sum(layer)
        if layer.strided_shortcut and layer.source != graph.image:  # the image needs no gradient
            _check_shortcut(layer, earlier, later)
        _check_channels(layer, later)


def _check_names(layers: Sequence[Layer]) -> None:
    """Each use of a parameter has statistics and gradients of its own, which are not added."""
    used = Counter(name for layer in layers for name in (layer.norm, layer.name) if name is not None)
    for name, count in used.items():
        if count > 1:
            raise Unsupported(f"{name}: used by {count} layers")


def _check_norm(layer: Layer, earlier: Sequence[Layer]) -> None:
    """Only convolutions accumulate the statistics of the map that they write."""
    kinds = {each.kind for each in earlier if each.into == layer.source}
    if layer.norm is not None and kinds != {"convolution"}:
        raise Unsupported(f"{layer.norm}: a norm of a map that is not the result of convolutions")


def _check_bias(layer: Layer, layers: Sequence[Layer]) -> None:
    """The gradient of a convolution's bias is not computed: it is 0 if only norms read the result."""
    if layer.kind != "convolution" or not layer.bias:
        return
    norms_only = all(each.norm is not None for each in layers if each.source == layer.into)
    if not norms_only or layer.beside is not None or any(each.beside == layer.into for each in layers):
        raise Unsupported(f"{layer.name}: a bias that is not only followed by norms")


def _check_sum(layer: Layer) -> None:
    if layer.beside is not None and (layer.beside.channels, layer.beside.side) != (
        layer.into.channels,
        layer.into.side,
    ):
        raise Unsupported(f"{layer.name}: the added map has another shape")


def _check_shortcut(layer: Layer, earlier: Sequence[Layer], later: Sequence[Layer]) -> None:
    """Its input's gradient is added by the parallel convolution, the next to use that map in the backward pass."""
    parallel = [
        (each.norm is not None, each.kernel, each.inputs)
        for each in earlier
        if each.kind == "convolution" and each.stride == 2 and each.source == layer.source
    ]
    used_later = any(layer.source in (each.source, each.beside) for each in later)
    if layer.norm is not None or parallel != [(True, 3, layer.inputs)] or used_later:
        raise Unsupported(
            f"{layer.name}: a strided 1×1 convolution must follow one strided 3×3 convolution with a norm, of the same"
            " map, and be the last to read it"
        )


def _check_channels(layer: Layer, later: Sequence[Layer]) -> None:
    """A layer adds to the gradient that a later one has written for all of its channels."""
    after = [each.inputs for each in later if each.source == layer.source and not each.strided_shortcut]
    if after and max(after) < layer.inputs:
        raise Unsupported(f"{layer.name}: it reads more channels than a later layer")
