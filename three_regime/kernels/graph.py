"""A network as the list of layers that the sparse engine runs (``sparse.h``); no torch.

A network's module describes itself (`lowered`, in `three_regime.models.families`) by calling the methods of `Graph` in
the order of its forward pass. Names are those of its parameters and buffers, without the last part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["convolution", "average", "maximum", "head"]
KINDS: tuple[Kind, ...] = ("convolution", "average", "maximum", "head")
"""As numbered in ``sparse.h``."""


EPSILON = 1e-5
"""Of every norm: torch's."""


class Unsupported(Exception):
    """The engine cannot run this network; says why."""


@dataclass(frozen=True)
class Map:
    """What a layer writes: square images of `side` with so many `channels`."""

    number: int
    channels: int
    side: int


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    norm
        BatchNorm, followed by ReLU, that stands before the layer; None: it takes the map as it is.
    name
        Of the convolution or linear layer.
    outputs, first
        Channels written: `first` … `first` + `outputs` − 1 of the map `into`.
    beside
        Map that is added to the result.
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


@runtime_checkable
class Lowerable(Protocol):
    """A network that the sparse engine can run."""

    def lowered(self, graph: Graph) -> None:
        """Describe the network in the order of its forward pass, from ``graph.image`` to `Graph.head`."""


@dataclass
class Graph:
    """Maps and layers of a network for images of `channels` and `side`."""

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
        """A map to write to."""
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
        """A convolution with padding that keeps the side, or halves it with `stride` 2.

        Parameters
        ----------
        inputs
            It reads the first so many channels of `source`; None: all.
        into, first
            Where it writes; None: to a map of its own.
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
        """A 2×2 pool of what norm and ReLU make of `source`."""
        if source.side % 2:
            raise Unsupported(f"a pool on a side of {source.side}")
        into = into or self.map(source.channels, source.side // 2)
        self.layers.append(Layer(kind, source, into, norm, inputs=source.channels, outputs=source.channels))
        return into

    def kept(self, masks: Mapping[str, np.ndarray]) -> float:
        """Share of the convolutions' multiply-adds that masks leave; a convolution without one keeps all."""
        return self._share(lambda layer: _kept(layer, masks))

    def winograd(self, masks: Mapping[str, np.ndarray]) -> frozenset[str]:
        """Names of the convolutions that keep so much that the engine computes them by Winograd's way."""
        return frozenset(
            layer.name for layer in self.layers
            if layer.name is not None and layer.kind == "convolution" and _kept(layer, masks) > _sparse_up_to(layer)
        )  # fmt: skip

    def pays(self, masks: Mapping[str, np.ndarray]) -> bool:
        """Whether the engine is the faster way (measured: ``benchmarks/README.md``).

        A rule for the whole network, since its maps lie in memory in one way or the other. Each layer says up to which
        density it gains: further where torch's direct convolution would do its work than where Winograd's way would,
        and further with few channels, for then passes over memory count most, of which the engine makes fewer. No layer
        costs more than Winograd's way does.
        """
        return self._share(lambda layer: min(_kept(layer, masks), _sparse_up_to(layer))) <= self._share(_gains_up_to)

    def _share(self, of: Callable[[Layer], float]) -> float:
        """Mean of a property of the convolutions, weighted by multiply-adds."""
        convolutions = [layer for layer in self.layers if layer.kind == "convolution"]
        costs = [layer.inputs * layer.outputs * layer.kernel**2 * layer.into.side**2 for layer in convolutions]
        return sum(cost * of(layer) for cost, layer in zip(costs, convolutions, strict=True)) / sum(costs)

    def head(self, source: Map, norm: str, name: str, classes: int) -> None:
        """The end: norm, ReLU, mean over space, linear classifier, cross-entropy."""
        self.layers.append(Layer("head", source, source, norm, name, source.channels, classes, bias=True))


def _kept(layer: Layer, masks: Mapping[str, np.ndarray]) -> float:
    mask = masks.get(f"{layer.name}.weight")
    return 1.0 if mask is None else float(mask.mean())


def _sparse_up_to(layer: Layer) -> float:
    """Density up to which products of the kept weights alone cost less than Winograd's way; 1 where it does not fit.

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
    """Density up to which a layer gains: fitted to PreResNet-20 (0.45), the same twice as wide (0.33), VGG-19 (0.6) and
    DenseNet-40 (any).
    """
    by_winograd = _fits_winograd(layer) and layer.norm is not None and not layer.bias
    return min(1.0, (0.14 if by_winograd else 0.55) + 8 / layer.outputs)
