"""Join the cells of studies that differ in one load: training-set size, label noise or width."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from three_regime.analysis import regime_tables, seed_means
from three_regime.config.loads import LOADS
from three_regime.errors import UserError
from three_regime.study.load_grids import LoadGrid
from three_regime.system.files import holds, write_csv


def join(name: str, load: str, density: float, cells: Mapping[float, pd.DataFrame]) -> pd.DataFrame:
    """The cells of several studies at one density, as cells of one grid over another load.

    Parameters
    ----------
    name
        Name of the grid, in the column ``study``.
    load
        Name of the load (`three_regime.config.loads`), whose column is added.
    cells
        Value of the load → rows of the study's ``cells.csv``.

    Raises
    ------
    UserError
        When a study has no cell at the density.
    """
    parts = []
    for value, table in cells.items():
        part = table[table["density"].round(6) == round(density, 6)]
        if part.empty:
            raise UserError(f"{table['study'].iloc[0]} has no cell at density {density:g}, which {name} compares")
        part = part.assign(study=name)
        part.insert(list(part).index("density"), LOADS[load].column, value)
        parts.append(part)
    joined = pd.concat(parts, ignore_index=True)
    # Studies of different widths have different models; the grid names them all.
    joined["model"] = "/".join(dict.fromkeys(joined["model"]))
    return seed_means.check_cells(joined, name)


def write(path: Path, name: str, load: str, density: float, cells: Mapping[float, Path]) -> None:
    """Write ``cells.csv`` of a grid from those of its studies."""
    write_csv(path, join(name, load, density, {value: seed_means.read_cells(each) for value, each in cells.items()}))


def is_current(grid: LoadGrid) -> bool:
    """Whether ``cells.csv`` of a grid exists and is what its studies' tables give."""
    path = grid.folder / "cells.csv"
    try:
        return path.is_file() and holds(path, _joined(grid, grid.root))
    except UserError:
        return False


def write_tables(grid: LoadGrid, root: Path) -> Path:
    """Write ``cells.csv`` and the regime tables of a grid, from the studies in the folder `root`; return its folder."""
    folder = root / grid.name
    write_csv(folder / "cells.csv", _joined(grid, root))
    regime_tables.write(folder, grid.thresholds)
    return folder


def _joined(grid: LoadGrid, root: Path) -> pd.DataFrame:
    """The cells of a grid, from the tables of its studies in the folder `root`."""
    cells = {at: seed_means.read_cells(root / study.name / "cells.csv") for at, study in grid.studies.items()}
    return join(grid.name, grid.load.name, grid.density, cells)
