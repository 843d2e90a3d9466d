"""Work memory of the sparse engine: which maps of a network share it, and each layer's part in the gradients.

Evaluation keeps a map only until the last layer that reads it. Training keeps all values for the backward pass; there
only gradients share memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from three_regime.kernels.graph import Graph, Layer, Map


@dataclass(frozen=True)
class Role:
    """What a layer does with the gradient of its input (``sparse.h``).

    Attributes
    ----------
    wanted
        Whether it computes it; nobody needs that of the images.
    adds
        Whether it adds to what later layers have written.
    half
        Whether it writes only even rows and columns, into memory of its own: a strided 1×1 convolution.
    """

    wanted: bool
    adds: bool
    half: bool


class Memory:
    """Assignment of maps to shared memory, and each layer's role for its input's gradient.

    Attributes
    ----------
    values, gradients
        The largest map of each piece of memory.
    value_of, gradient_of
        Map number → piece.
    """

    def __init__(self, graph: Graph, training: bool) -> None:
        self.graph = graph
        layers = graph.layers
        if training:
            self.values, self.value_of = list(graph.maps), {each.number: each.number for each in graph.maps}
        else:
            lives = {each.number: _life(layers, (each.number,)) for each in graph.maps}
            self.values, self.value_of = _shared(graph.maps, lives)
        self.gradients: list[Map] = []
        self.gradient_of: dict[int, int] = {}
        if not training:
            return
        leader = _chained(graph)
        groups: dict[int, list[int]] = {}
        for each in graph.maps[1:]:
            groups.setdefault(leader[each.number], []).append(each.number)
        # Backward runs through the layers from the last to the first, and so does time here.
        lives = {first: tuple(-at for at in reversed(_life(layers, group))) for first, group in groups.items()}
        self.gradients, pieces = _shared([graph.maps[first] for first in groups], lives)
        self.gradient_of = {number: pieces[first] for first, group in groups.items() for number in group}

    def role(self, index: int) -> Role:
        """Role of layer `index`."""
        layer = self.graph.layers[index]
        later = self.graph.layers[index + 1 :]
        adds = any(
            each.beside == layer.source or (each.source == layer.source and not each.strided_shortcut) for each in later
        )
        return Role(layer.source.number != 0, adds, layer.strided_shortcut)


def _life(layers: Sequence[Layer], maps: Iterable[int]) -> tuple[int, int]:
    """First and last layer that touches any of these maps; the image exists before the first."""
    maps = set(maps)
    touching = [
        index for index, layer in enumerate(layers)
        if maps & {layer.source.number, layer.into.number, -1 if layer.beside is None else layer.beside.number}
    ]  # fmt: skip
    return (-1 if 0 in maps else min(touching)), max(touching)


def _shared(maps: Sequence[Map], lives: Mapping[int, tuple[int, ...]]) -> tuple[list[Map], dict[int, int]]:
    """Assign maps with lifetimes (inclusive) to pieces of memory, greedily in order of birth."""
    pieces: list[Map] = []
    busy_until: list[int] = []
    piece_of = {}
    for each in sorted(maps, key=lambda each: lives[each.number][0]):
        born, ends = lives[each.number]
        volume = each.channels * each.side**2
        free = [i for i, until in enumerate(busy_until) if until < born]
        found = min(free, key=lambda i: abs(pieces[i].channels * pieces[i].side ** 2 - volume), default=len(pieces))
        if found == len(pieces):
            pieces.append(each)
            busy_until.append(ends)
        elif volume > pieces[found].channels * pieces[found].side ** 2:
            pieces[found] = each
        busy_until[found] = ends
        piece_of[each.number] = found
    return pieces, piece_of


def _chained(graph: Graph) -> dict[int, int]:
    """Map → first map of its group; maps that are added to each other share one gradient."""
    leader = {each.number: each.number for each in graph.maps}
    for layer in graph.layers:
        if layer.beside is not None:
            old, new = leader[layer.into.number], leader[layer.beside.number]
            leader = {number: new if first == old else first for number, first in leader.items()}
    return leader
