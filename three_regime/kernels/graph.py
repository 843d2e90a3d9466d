"""Describe a network as a list of layers for the sparse engine (``sparse.h``). Does not import torch.

A network (`three_regime.models`) describes itself in its method `lowered` by calling the methods of `Graph` in the
order of its forward pass. Names are those of its modules: parameter names without the last part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["convolution", "average", "maximum", "head"]
KINDS: tuple[Kind, ...] = ("convolution", "average", "maximum", "head")
"""Kinds of layers, numbered as in ``sparse.h``."""


EPSILON = 1e-5
"""Epsilon of every BatchNorm (torch's default)."""


class Unsupported(Exception):
    """The engine cannot run this network; the message gives the reason."""


@dataclass(frozen=True)
class Map:
    """A feature map: square images of `side` with `channels`."""

    number: int
    channels: int
    side: int


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    norm
        BatchNorm, followed by ReLU, applied to the layer's input; None: no norm and no ReLU.
    name
        Name of the convolution or linear layer.
    outputs, first
        Output channels: `first` … `first` + `outputs` − 1 of the map `into`.
    beside
        Map added to the result.
    """

    kind: Kind
    source: Map
    into: Map
    norm: str | None
    name: str | None = None
    inputs: int = 0
    outputs: int = 0
    first: int = 0
    kernel: int = 3
    stride: int = 1
    bias: bool = False
    beside: Map | None = None

    @property
    def strided_shortcut(self) -> bool:
        """Whether it is a 1×1 convolution of every other pixel."""
        return self.kind == "convolution" and (self.kernel, self.stride) == (1, 2)


@runtime_checkable
class Lowerable(Protocol):
    """A network that the sparse engine can run."""

    def lowered(self, graph: Graph) -> None:
        """Describe the network in the order of its forward pass, from ``graph.image`` to `Graph.head`."""


@dataclass
class Graph:
    """Feature maps and layers of a network for images of `channels` and `side`."""

    channels: int
    side: int
    maps: list[Map] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.map(self.channels, self.side)

    @property
    def image(self) -> Map:
        return self.maps[0]

    def map(self, channels: int, side: int) -> Map:
        """Add a feature map."""
        self.maps.append(Map(len(self.maps), channels, side))
        return self.maps[-1]

    def convolution(
        self,
        source: Map,
        name: str,
        outputs: int,
        *,
        norm: str | None = None,
        inputs: int | None = None,
        kernel: int = 3,
        stride: int = 1,
        bias: bool = False,
        beside: Map | None = None,
        into: Map | None = None,
        first: int = 0,
    ) -> Map:
        """Add a convolution, padded to keep the side, or to halve it with `stride` 2.

        Parameters
        ----------
        inputs
            Number of channels of `source` to read, the first ones; None: all.
        into, first
            Map and first channel to write to; None: a new map.
        """
        if kernel not in (1, 3) or stride not in (1, 2) or source.side % stride:
            raise Unsupported(
                f"{name}: a convolution of {kernel}×{kernel}, stride {stride}, on a side of {source.side}"
            )
        into = into or self.map(outputs, source.side // stride)
        self.layers.append(Layer(
            "convolution", source, into, norm, name, inputs or source.channels, outputs, first, kernel, stride, bias,
            beside,
        ))  # fmt: skip
        return into

    def pool(self, source: Map, norm: str, kind: Literal["average", "maximum"], into: Map | None = None) -> Map:
        """Add a 2×2 pool of ReLU(norm(source))."""
        if source.side % 2:
            raise Unsupported(f"a pool on a side of {source.side}")
        into = into or self.map(source.channels, source.side // 2)
        self.layers.append(Layer(kind, source, into, norm, inputs=source.channels, outputs=source.channels))
        return into

    def kept(self, masks: Mapping[str, np.ndarray]) -> float:
        """Fraction of the convolutions' multiply-adds kept by the masks; convolutions without a mask keep all."""
        return self._share(lambda layer: _kept(layer, masks))

    def winograd(self, masks: Mapping[str, np.ndarray]) -> frozenset[str]:
        """Names of the convolutions dense enough for the engine to compute them by Winograd's algorithm."""
        return frozenset(
            layer.name for layer in self.layers
            if layer.name is not None and layer.kind == "convolution" and _kept(layer, masks) > _sparse_up_to(layer)
        )  # fmt: skip

    def pays(self, masks: Mapping[str, np.ndarray]) -> bool:
        """Whether the engine is faster than torch (measurements: ``benchmarks/README.md``).

        The rule is for the whole network, because all maps share one memory layout. Each layer has a density up to
        which it gains: higher where torch would use a direct convolution than where the Winograd kernel applies, and
        higher with few channels, where passes over memory dominate, of which the engine makes fewer. A layer
        costs no more than by Winograd's algorithm where the engine has that (`_sparse_up_to`).
        """
        return self._share(lambda layer: min(_kept(layer, masks), _sparse_up_to(layer))) <= self._share(_gains_up_to)

    def _share(self, of: Callable[[Layer], float]) -> float:
        """Mean of a property over convolutions, weighted by multiply-adds."""
        convolutions = [layer for layer in self.layers if layer.kind == "convolution"]
        costs = [layer.inputs * layer.outputs * layer.kernel**2 * layer.into.side**2 for layer in convolutions]
        return sum(cost * of(layer) for cost, layer in zip(costs, convolutions, strict=True)) / sum(costs)

    def head(self, source: Map, norm: str, name: str, classes: int) -> None:
        """Add the head: norm, ReLU, spatial mean, linear classifier, cross-entropy."""
        self.layers.append(Layer("head", source, source, norm, name, source.channels, classes, bias=True))


def _kept(layer: Layer, masks: Mapping[str, np.ndarray]) -> float:
    mask = masks.get(f"{layer.name}.weight")
    return 1.0 if mask is None else float(mask.mean())


def _sparse_up_to(layer: Layer) -> float:
    """Density up to which sparse products are cheaper than Winograd's algorithm; 1 if that does not apply.

    Measured for 16, 32 and 64 channels (``benchmarks/README.md``).
    """
    if layer.bias or not _fits_winograd(layer) or max(layer.inputs, layer.outputs) > 64:  # not measured
        return 1.0
    return min(1.0, 0.16 + 3.5 / layer.outputs)


def _fits_winograd(layer: Layer) -> bool:
    return (
        (layer.kernel, layer.stride) == (3, 1)
        and layer.into.side % 4 == layer.inputs % 16 == layer.outputs % 16 == 0
        and max(layer.inputs, layer.outputs) <= 256  # `models.layers.MOST_CHANNELS`
    )


def _gains_up_to(layer: Layer) -> float:
    """Density up to which a layer gains, fitted to PreResNet-20 (0.45), PreResNet-20x2 (0.33), VGG-19 (0.6) and
    DenseNet-40 (any).
    """
    by_winograd = _fits_winograd(layer) and layer.norm is not None and not layer.bias
    return min(1.0, (0.14 if by_winograd else 0.55) + 8 / layer.outputs)
