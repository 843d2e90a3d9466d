"""Geometry of the regions of a phase diagram, in cell coordinates.

Cell (row r, column j) covers x from j to j + 1 and y from r to r + 1, with its centre at (j + 0.5, r + 0.5).
Which cells lie on which side of a border comes from their labels; where the border crosses a column comes from the
computed crossings. So a line never contradicts a label, and its vertices on column centres are the computed numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import contourpy
import numpy as np
from scipy import ndimage

_SAMPLES = 8
"""Points per cell edge when looking for the roomiest place of a region."""


def border_lines(inside: np.ndarray, crossings: Mapping[int, Sequence[float]]) -> list[np.ndarray]:
    """Lines that separate the cells inside a region from those outside.

    Parameters
    ----------
    inside
        Shape (rows, columns): 1 inside, 0 outside, NaN where unknown (no line is drawn there).
    crossings
        For a column, the positions of the border on the row axis (0 = centre of the first row, 1.5 = halfway between
        the second and the third). Where labels change between two rows and none is given, the line passes halfway.

    Returns
    -------
    list of numpy.ndarray
        Polylines of shape (n, 2) in cell coordinates. Between two columns a line follows their common edge; at the
        rim it continues to the panel's frame.
    """
    rows, columns = inside.shape
    x = np.concatenate([[0.0], np.arange(columns) + 0.5, [columns]])
    y = np.concatenate([[0.0], np.arange(rows) + 0.5, [rows]])
    padded = np.ma.masked_invalid(np.pad(inside.astype(float), 1, mode="edge"))
    lines = [np.array(line) for line in contourpy.contour_generator(x, y, padded).lines(0.5)]
    for line in lines:
        for vertex in line:
            on_column = np.flatnonzero(x == vertex[0])
            if len(on_column):
                column = int(np.clip(on_column[0] - 1, 0, columns - 1))
                vertex[1] = _nearest_crossing(crossings.get(column, ()), vertex[1] - 0.5) + 0.5
    return lines


def _nearest_crossing(crossings: Sequence[float], halfway: float) -> float:
    """The crossing between the two rows around `halfway`, or `halfway` itself where there is none."""
    near = [value for value in crossings if abs(value - halfway) <= 0.5 + 1e-9]
    return min(near, key=lambda value: abs(value - halfway), default=halfway)


def crossings_in_gaps(missing: np.ndarray, crossings: Mapping[int, Sequence[float]]) -> list[np.ndarray]:
    """Crossings next to a cell that was not run, each as a dash across its column.

    Labels cannot say where the border runs there, so `border_lines` leaves these out.

    Parameters
    ----------
    missing
        Shape (rows, columns), true where a cell was not run.
    crossings
        As for `border_lines`.

    Returns
    -------
    list of numpy.ndarray
        Polylines of shape (3, 2): left edge, centre and right edge of the column.
    """
    dashes = []
    for column, positions in crossings.items():
        for position in positions:
            above = int(np.clip(np.floor(position), 0, missing.shape[0] - 1))
            below = int(np.clip(np.ceil(position), 0, missing.shape[0] - 1))
            if missing[above, column] or missing[below, column]:
                dashes.append(np.array([[column + offset, position + 0.5] for offset in (0.0, 0.5, 1.0)]))
    return dashes


def roomiest_point(
    region: np.ndarray, obstacles: Sequence[np.ndarray], cell_width: float, cell_height: float
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

    Returns
    -------
    tuple of float, or None
        (x, y) in cell coordinates; None for an empty region.
    """
    if not region.any():
        return None
    fine = np.pad(np.kron(region.astype(bool), np.ones((_SAMPLES, _SAMPLES), dtype=bool)), 1)
    for line in obstacles:
        steps = np.arange(len(line))
        dense = np.linspace(0, len(line) - 1, 1 + 2 * _SAMPLES * max(region.shape) * (len(line) - 1))
        x, y = (np.interp(dense, steps, line[:, axis]) for axis in (0, 1))
        fine[(y * _SAMPLES + 0.5).astype(int), (x * _SAMPLES + 0.5).astype(int)] = False
    distance = ndimage.distance_transform_edt(fine, sampling=(cell_height, cell_width))
    best = np.argwhere(distance >= distance.max() - 1e-9)
    row, column = best[np.argmin(((best - best.mean(axis=0)) ** 2).sum(axis=1))]
    return (column - 0.5) / _SAMPLES, (row - 0.5) / _SAMPLES


def width_at(region: np.ndarray, point: tuple[float, float]) -> int:
    """Number of neighbouring columns of the region around a point of it, along its row."""
    row = min(int(point[1]), region.shape[0] - 1)
    column = min(int(point[0]), region.shape[1] - 1)
    labels, _ = ndimage.label(region[row])
    return int((labels == labels[column]).sum()) if labels[column] else 1
