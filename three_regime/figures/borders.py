"""Geometry of the regions of a phase diagram, in cell coordinates.

Cell (row r, column j) covers x from j to j + 1 and y from r to r + 1, with its centre at (j + 0.5, r + 0.5).
A border follows the edges of cells, so that it never contradicts a label; where between two temperatures a measure
crosses its threshold is in boundaries.csv.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

_SAMPLES = 8
"""Points per cell edge when looking for the roomiest place of a region."""


def border_lines(inside: np.ndarray) -> list[np.ndarray]:
    """Lines along the edges between the cells inside a region and those outside.

    Parameters
    ----------
    inside
        Shape (rows, columns): 1 inside, 0 outside, NaN where unknown (no line is drawn there).

    Returns
    -------
    list of numpy.ndarray
        Polylines of shape (n, 2) in cell coordinates, corner to corner, each as long as it goes.
    """
    rows, columns = np.nonzero(inside[:-1] + inside[1:] == 1)
    edges = [((x, y + 1), (x + 1, y + 1)) for y, x in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(inside[:, :-1] + inside[:, 1:] == 1)
    edges += [((x + 1, y), (x + 1, y + 1)) for y, x in zip(rows, columns, strict=True)]
    return [np.array(line, dtype=float) for line in _chained(edges)]


Corner = tuple[int, int]


def _chained(edges: Sequence[tuple[Corner, Corner]]) -> list[list[Corner]]:
    """Edges joined at common corners: open lines from their ends, then rings."""
    left: dict[Corner, list[Corner]] = {}
    for one, other in edges:
        left.setdefault(one, []).append(other)
        left.setdefault(other, []).append(one)
    lines = []
    while any(left.values()):
        ends = [corner for corner, others in left.items() if len(others) % 2] or [c for c, o in left.items() if o]
        line = [min(ends)]
        while others := left[line[-1]]:
            following = others.pop(0)
            left[following].remove(line[-1])
            line.append(following)
        lines.append(line)
    return lines


def connected(region: np.ndarray) -> list[np.ndarray]:
    """The parts of a region (shape (rows, columns), true inside) whose cells share edges, the largest first."""
    labels, count = ndimage.label(region)
    return sorted((labels == label for label in range(1, count + 1)), key=lambda part: -part.sum())


def room_for(region: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Points around which a box of so many (columns, rows) lies inside a region, on the grid of `roomiest_point`."""
    width, height = (2 * int(np.ceil(_SAMPLES * side / 2)) + 1 for side in box)
    return ndimage.minimum_filter(_fine(region), size=(height, width), mode="constant", cval=False)


def near(cells: np.ndarray, box: Sequence[float], place: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """Points around which a box of so many (columns, rows) holds a `place` in one of the `cells`, on that grid."""
    x, y = (np.arange(_SAMPLES * count + 2) / _SAMPLES - 0.5 / _SAMPLES for count in cells.shape[::-1])
    held = np.zeros((len(y), len(x)), dtype=bool)
    for row, column in np.argwhere(cells):
        inside = [np.abs(y - row - place[1]) < box[1] / 2, np.abs(x - column - place[0]) < box[0] / 2]
        held |= np.outer(*inside)
    return held


def _fine(region: np.ndarray) -> np.ndarray:
    """A region in points, `_SAMPLES` an edge of a cell, with one outside at every side."""
    return np.pad(np.kron(region.astype(bool), np.ones((_SAMPLES, _SAMPLES), dtype=bool)), 1)


def roomiest_point(
    region: np.ndarray,
    obstacles: Sequence[np.ndarray],
    cell_width: float,
    cell_height: float,
    among: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """The point of a region farthest from everything outside it and from the obstacles, for its label.

    Parameters
    ----------
    region
        Shape (rows, columns), true inside.
    obstacles
        Polylines of shape (n, 2) in cell coordinates; a single point is one with n = 1.
    cell_width, cell_height
        Size of a cell in any common unit; a smaller width keeps a wide label farther from the sides.
    among
        The points that may be chosen (`room_for`, `near`); all without.

    Returns
    -------
    tuple of float, or None
        (x, y) in cell coordinates; None where no point may be chosen.
    """
    fine = _fine(region)
    may = fine.copy() if among is None else among & fine
    if not may.any():
        return None
    for line in obstacles:
        steps = np.arange(len(line))
        dense = np.linspace(0, len(line) - 1, 1 + 2 * _SAMPLES * max(region.shape) * (len(line) - 1))
        x, y = (np.interp(dense, steps, line[:, axis]) for axis in (0, 1))
        fine[(y * _SAMPLES + 0.5).astype(int), (x * _SAMPLES + 0.5).astype(int)] = False
    distance = ndimage.distance_transform_edt(fine, sampling=(cell_height, cell_width))
    best = np.argwhere(may & (distance >= distance[may].max() - 1e-9))
    row, column = best[np.argmin(((best - best.mean(axis=0)) ** 2).sum(axis=1))]
    return (column - 0.5) / _SAMPLES, (row - 0.5) / _SAMPLES


def width_at(region: np.ndarray, point: tuple[float, float]) -> int:
    """Number of neighbouring columns of the region around a point of it, along its row."""
    row = min(int(point[1]), region.shape[0] - 1)
    column = min(int(point[0]), region.shape[1] - 1)
    labels, _ = ndimage.label(region[row])
    return int((labels == labels[column]).sum()) if labels[column] else 1
