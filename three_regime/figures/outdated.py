"""Find figures and an explorer that the tables and settings no longer give.

A figure is judged by the CSV file that is written with its pictures.
"""

from __future__ import annotations

from pathlib import Path

from three_regime.analysis.outdated import differing
from three_regime.config import Config
from three_regime.figures import explorer
from three_regime.figures.study import Tables, data_of
from three_regime.study.grid import Study, planned
from three_regime.study.load_grids import LoadGrid, load_grids
from three_regime.study.outputs import EXPLORER_FILE


def outdated_figures(tabled: Study | LoadGrid) -> list[Path]:
    """CSV files of the figures of a study or grid that do not follow from its tables.

    Raises
    ------
    UserError
        When a table that they are drawn from is missing or damaged.
    """
    folder, tables = tabled.folder / "figures", Tables(tabled.folder, tabled.thresholds)
    there = [name for name in tabled.figures if (folder / f"{name}.csv").is_file()]
    return differing(folder, {f"{name}.csv": data_of(tables, name) for name in there})


def outdated_explorer(config: Config) -> list[Path]:
    """The explorer, if it does not follow from the tables of the planned studies and grids.

    Raises
    ------
    UserError
        When a table is missing or damaged.
    """
    path = Path(config.results) / EXPLORER_FILE
    if not path.is_file():
        return []
    folders = {each.folder: each.thresholds for each in (*planned(config), *load_grids(config))}
    page = explorer.render(folders, config.regimes.thresholds if config.published else None)
    return differing(path.parent, {path.name: page})
