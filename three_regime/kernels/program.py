"""Lay out a pruned network for the sparse engine: structures of ``sparse.h`` in ctypes, and lists of kept weights.

Arrays are NumPy arrays. Only work memory persists between calls, so a result depends only on the arguments of its call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from three_regime.kernels.graph import EPSILON, KINDS, Graph, Layer, Map
from three_regime.kernels.memory import Memory, Role

Mode = Literal["evaluate", "statistics", "gradient", "step"]
MODES: tuple[Mode, ...] = ("evaluate", "statistics", "gradient", "step")

TRANSFORMED = 36
"""Coefficients of a 3×3 filter transformed by Winograd's F(4×4, 3×3)."""

_POINTER, _LONG, _DOUBLE = ctypes.c_void_p, ctypes.c_long, ctypes.c_double


class _Map(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("x", "g", "mean", "variance", "third", "fourth")),
        *((name, _LONG) for name in ("channels", "height", "width", "normed")),
    )


class _Norm(ctypes.Structure):
    _fields_ = (
        *((name, _LONG) for name in ("channels", "weight", "bias", "slot")),
        ("epsilon", _DOUBLE),
        ("slope", _POINTER),
        ("shift", _POINTER),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _LONG) for name in ("kind", "source", "into", "norm", "beside", "inputs", "outputs", "first")),
        *((name, _LONG) for name in ("kernel", "stride", "bias", "wanted", "adds", "keeps")),
        ("half", _POINTER),
        ("kept", _LONG),
        ("slot", _LONG),
        *((name, _POINTER) for name in ("begin", "at", "place", "turned_begin", "turned_at", "turned_place")),
        *((name, _POINTER) for name in ("weights", "turned", "sums")),
        ("weight", _LONG),
        *((name, _POINTER) for name in ("filters", "turned_filters", "products")),
    )


class _Network(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("maps", "norms", "layers")),
        *((name, _LONG) for name in ("layer_count", "slots")),
        ("places", _POINTER),
        ("gradient", _POINTER),
        ("classes", _LONG),
        ("widest", _LONG),
    )


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("parameters", "momentum", "means", "variances", "pixels", "levels")),
        *((name, _POINTER) for name in ("order", "shifts", "labels", "flips", "logits", "totals")),
        *((name, _LONG) for name in ("start", "count", "padding", "mode", "threads")),
        *((name, _DOUBLE) for name in ("rate", "factor", "decay", "moved")),
    )


STRUCTURES = (_Map, _Norm, _Layer, _Network, _Call)
"""Structures in the order of ``sparse_size`` in ``sparse_network.c``."""


@dataclass(frozen=True)
class Kept:
    """Lists of the kept weights of a convolution (``sparse.h``); int32."""

    begin: np.ndarray
    at: np.ndarray
    place: np.ndarray
    turned_begin: np.ndarray
    turned_at: np.ndarray
    turned_place: np.ndarray


def kept_weights(mask: np.ndarray, stride: int, width: int, lanes: int, base: int) -> Kept:
    """Build the lists of kept weights of a convolution.

    Parameters
    ----------
    mask
        (outputs, inputs, kernel, kernel) bool.
    width
        Width of the input in pixels.
    base
        Offset of the first weight in the parameter vector.
    """
    outputs, inputs, kernel, _ = mask.shape
    flat = np.flatnonzero(mask)
    output, source, row, column = np.unravel_index(flat, mask.shape)
    margin = (3 - kernel) // 2  # a 1×1 convolution is the centre of a 3×3 one
    row, column = row + margin, column + margin
    line, turned_line = (width + 2) * lanes, (width // stride + 2) * lanes
    at = row * inputs * line + source * line + column * lanes
    parity = (row + 1) % stride * 2 + (column + 1) % stride  # of the input positions that the weight multiplies
    back = [(1 + (tap + 1) % stride - tap) // stride + 1 for tap in (row, column)]
    turned_at = back[0] * outputs * turned_line + output * turned_line + back[1] * lanes
    list_of = parity * inputs + source
    turned = np.argsort(list_of, kind="stable")
    found = (
        _begins(output, outputs), at, flat + base,
        _begins(list_of, stride**2 * inputs), turned_at[turned], flat[turned] + base,
    )  # fmt: skip
    return Kept(*(array.astype(np.int32) for array in found))


def _begins(of: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(of, minlength=count))])


class Program:
    """A network with masks, and memory for batches of at most `images`.

    Parameters
    ----------
    functions
        The loaded kernels.
    graph
        A graph that `graph_rules.check` accepts.
    shapes
        Parameter → shape, in the order of the parameter vector.
    masks
        Parameter → bool array; convolutions without a mask keep every weight.
    training
        Whether `run` can compute gradients; if not, maps share memory.
    winograd
        Names of the convolutions to compute by Winograd's algorithm (`Graph.winograd`): 3×3, stride 1, side a multiple
        of 4, channels multiples of 16. Parameters must be 0 where a mask removes a weight.
    """

    def __init__(
        self,
        functions: ctypes.CDLL,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        masks: Mapping[str, np.ndarray],
        *,
        images: int,
        threads: int,
        training: bool,
        winograd: Collection[str] = (),
    ) -> None:
        self._winograd = frozenset(winograd)
        self.functions, self.graph, self.images, self.threads = functions, graph, images, threads
        self.norms = list(dict.fromkeys(layer.norm for layer in graph.layers if layer.norm is not None))
        self.classes = graph.layers[-1].outputs
        self._lanes = functions.sparse_lanes()
        self._held: list[Any] = []
        self._starts = dict(
            zip(shapes, np.cumsum([0, *(np.prod(s, dtype=int) for s in shapes.values())]), strict=False)
        )
        self._places: list[np.ndarray] = []
        self._slots = 0
        normed = {layer.source.number for layer in graph.layers if layer.norm is not None}
        memory = Memory(graph, training)
        values = [self._floats(self._size(map_)) for map_ in memory.values]
        gradients = [self._address(self._floats(self._size(map_))) for map_ in memory.gradients]
        maps = [
            _Map(
                self._address(values[memory.value_of[each.number]]),
                gradients[memory.gradient_of[each.number]] if each.number in memory.gradient_of else None,
                *(self._address(self._floats(each.channels)) for _ in range(4)),
                each.channels, each.side, each.side, each.number in normed,
            )
            for each in graph.maps
        ]  # fmt: skip
        norms, layers = [], []
        halves: dict[int, int] = {}
        for index, layer in enumerate(graph.layers):
            if layer.norm is not None:
                norms.append(self._norm(layer))
            layers.append(self._layer(layer, len(norms) - 1, masks, shapes, memory.role(index), halves, training))
        self._connect_halves(layers, halves)
        places = np.concatenate(self._places).astype(np.int32)
        self.gradient = self._floats(self._slots)
        self.places = places
        self._network = _Network(
            *(self._address(_array(each)) for each in (maps, norms, layers)),
            len(layers), self._slots, self._address(places), self._address(self.gradient), self.classes,
            max(each.channels for each in graph.maps),
        )  # fmt: skip

    def run(
        self,
        mode: Mode,
        *,
        parameters: np.ndarray,
        statistics: Sequence[tuple[np.ndarray, np.ndarray]],
        pixels: np.ndarray,
        levels: np.ndarray,
        count: int,
        momentum: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        start: int = 0,
        order: np.ndarray | None = None,
        shifts: np.ndarray | None = None,
        flips: np.ndarray | None = None,
        padding: int = 0,
        logits: np.ndarray | None = None,
        rate: float = 0.0,
        factor: float = 0.0,
        decay: float = 0.0,
        moved: float = 0.1,
    ) -> tuple[float, int]:
        """Run one batch; return the sum of the losses and the number of errors.

        Parameters
        ----------
        mode
            ``evaluate``: forward pass with running statistics. ``statistics``: forward pass with batch statistics,
            updating running statistics. ``gradient``: also the backward pass (into `gradient`). ``step``: also an SGD
            step.
        parameters, momentum
            (P,) float32; updated by a step.
        statistics
            Running mean and variance of each norm, in the order of `norms`; updated except in ``evaluate``.
        pixels, levels
            (N, side, side, channels) uint8, and (channels, 256) float32: lookup table from byte to input.
        order, start, count
            The batch: images `order`, or `count` images from `start`.
        shifts, flips, padding
            Crop and flip of each image of the batch (`Augmenter.crop`).
        logits
            (count, classes) float32, output.
        rate, factor, decay
            Learning rate, momentum and weight decay of SGD.
        moved
            Momentum of the running statistics.
        """
        if not 0 < count <= self.images:
            raise ValueError(f"a batch of {count} images; the program was made for 1 to {self.images}")
        means, variances = (
            (_POINTER * len(statistics))(*(self._data(pair[i], np.float32) for pair in statistics)) for i in (0, 1)
        )
        totals = np.zeros(2)
        call = _Call(
            self._data(parameters, np.float32), self._data(momentum, np.float32),
            ctypes.cast(means, _POINTER), ctypes.cast(variances, _POINTER),
            self._data(pixels, np.uint8), self._data(levels, np.float32), self._data(order, np.int64),
            self._data(shifts, np.int64), self._data(labels, np.int64), self._data(flips, np.bool_),
            self._data(logits, np.float32), self._data(totals, np.float64),
            start, count, padding, MODES.index(mode), self.threads, rate, factor, decay, moved,
        )  # fmt: skip
        self.functions.sparse_run(ctypes.byref(self._network), ctypes.byref(call))
        return float(totals[0]), int(totals[1])

    def dense_gradient(self, size: int) -> np.ndarray:
        """Gradient of the last batch as a vector of all `size` parameters; 0 at pruned weights."""
        found = np.zeros(size, np.float32)
        found[self.places] = self.gradient
        return found

    def _layer(
        self,
        layer: Layer,
        norm: int,
        masks: Mapping[str, np.ndarray],
        shapes: Mapping[str, tuple[int, ...]],
        role: Role,
        halves: dict[int, int],
        training: bool,
    ) -> _Layer:
        made = _Layer(
            KINDS.index(layer.kind), layer.source.number, layer.into.number, norm if layer.norm is not None else -1,
            -1 if layer.beside is None else layer.beside.number, layer.inputs, layer.outputs, layer.first,
            layer.kernel, layer.stride, -1, role.wanted, role.adds, layer.beside is not None,
        )  # fmt: skip
        if layer.kind == "head":
            made.outputs = 0
            made.first, made.bias = self._starts[f"{layer.name}.weight"], self._starts[f"{layer.name}.bias"]
            made.slot = self._slot(made.first, layer.inputs * layer.outputs)
            self._slot(made.bias, layer.outputs)
        if layer.kind != "convolution":
            return made
        name = f"{layer.name}.weight"
        mask = np.asarray(masks.get(name, np.ones(shapes[name], bool)), bool)
        kept = kept_weights(mask, layer.stride, layer.source.side, self._lanes, int(self._starts[name]))
        made.kept, made.slot = len(kept.place), self._slot(kept.place)
        if layer.bias:
            made.bias = self._starts[f"{layer.name}.bias"]
            self._slot(made.bias, layer.outputs)  # before a norm its gradient is 0, so it only decays
        made.begin, made.at, made.place = map(self._address, (kept.begin, kept.at, kept.place))
        made.weight = self._starts[name]
        if layer.name in self._winograd:
            size = TRANSFORMED * layer.inputs * layer.outputs
            made.filters = self._address(self._floats(size))
            if training:
                made.turned_filters = self._address(self._floats(size))
                made.products = self._address(self._floats(self.threads * size))
            return made
        made.weights = self._address(self._floats(made.kept))
        if training:
            made.turned_begin, made.turned_at, made.turned_place = map(
                self._address, (kept.turned_begin, kept.turned_at, kept.turned_place)
            )
            made.turned = self._address(self._floats(made.kept))
            made.sums = self._address(self._floats(self.threads * made.kept * self._lanes))
        if role.half:
            halves[layer.source.number] = self._address(
                self._floats(self._rounded * layer.inputs * (layer.source.side // 2) ** 2)
            )
        return made

    def _connect_halves(self, layers: list[_Layer], halves: Mapping[int, int]) -> None:
        """Connect gradients of strided shortcuts to the parallel convolution, which adds them."""
        for layer in layers:
            if layer.kind == KINDS.index("convolution") and layer.stride == 2:
                layer.half = halves.get(layer.source)

    def _norm(self, layer: Layer) -> _Norm:
        weight, bias = (int(self._starts[f"{layer.norm}.{part}"]) for part in ("weight", "bias"))
        slot = self._slot(weight, layer.inputs)
        self._slot(bias, layer.inputs)
        room = (self._address(self._floats(layer.inputs)) for _ in range(2))
        return _Norm(layer.inputs, weight, bias, slot, EPSILON, *room)

    def _slot(self, places: np.ndarray | int, count: int = 0) -> int:
        """Assign slots to the trained parameters at these places; return the first slot."""
        places = np.arange(places, places + count) if count else places
        self._places.append(places)
        self._slots += len(places)
        return self._slots - len(places)

    @property
    def _rounded(self) -> int:
        return -(-self.images // self._lanes) * self._lanes

    def _size(self, map_: Map) -> int:
        return self._rounded * map_.channels * map_.side**2

    def _floats(self, count: int) -> np.ndarray:
        """Zeros, aligned to a cache line."""
        raw = np.zeros(int(count) + 16, np.float32)
        skipped = -raw.ctypes.data % 64 // 4
        return raw[skipped : skipped + int(count)]

    def _address(self, memory: Any) -> int:
        """Address of memory, which is kept alive with this object."""
        self._held.append(memory)
        return memory.ctypes.data if isinstance(memory, np.ndarray) else ctypes.addressof(memory)

    @staticmethod
    def _data(array: np.ndarray | None, dtype: type) -> int | None:
        if array is None:
            return None
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise TypeError(f"expected contiguous {np.dtype(dtype)}, got {array.dtype}")
        return array.ctypes.data


def _array(structures: Sequence[ctypes.Structure]) -> ctypes.Array:
    return (type(structures[0]) * len(structures))(*structures)
