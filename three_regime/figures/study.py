"""Every figure of a study from the tables in its folder, each saved with the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from three_regime.analysis.seed_means import check_grid, setting_of_table
from three_regime.config.knobs import KNOBS, Knob
from three_regime.config.loads import DENSITY, load_of
from three_regime.config.measures import measured_columns
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.figures import against_load, curves, layers, phase, planes, seeds, sensitivity
from three_regime.figures.output import save
from three_regime.figures.wording import reword
from three_regime.settings import Setting
from three_regime.study.outputs import GRID_FIGURES


@dataclass(frozen=True)
class Tables:
    """The tables of one study, read when they are asked for, and the thresholds that they were made with."""

    folder: Path
    thresholds: Thresholds

    def __getitem__(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.csv"
        try:
            table = pd.read_csv(path).copy()  # in one piece, as `read_table`
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: make the tables first") from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a complete table ({error}); delete it and make it again") from error
        return check_grid(table, path) if name == "grid" else table

    @property
    def knob(self) -> Knob:
        """The study's knob, labelled in the unit of its setting."""
        grid = self["grid"]
        name = str(grid["knob"].iloc[0]) if "knob" in grid and len(grid) else ""
        if name not in KNOBS:
            raise UserError(f"{self.folder / 'grid.csv'} names no known knob ({', '.join(KNOBS)}) but {name!r}")
        knob = KNOBS[name]
        labels = self.setting.knob_labels if self.setting else {}
        return replace(knob, label=labels.get(knob.name, knob.label))

    @property
    def title(self) -> str:
        """The study's name, and where its numbers come from unless all were computed here; data, model, knob; of a grid
        over another load, its density too."""
        grid = self["grid"]
        origins = set(grid["origin"].dropna()) if "origin" in grid else set()
        origin = "" if origins <= {"computed"} else f" ({', '.join(sorted(origins))})"
        about = [str(grid[column].iloc[0]) for column in ("dataset", "model") if column in grid]
        if load_of(grid) is not DENSITY:
            about.append(f"density {DENSITY.text(grid['density'].iloc[0])} %")
        return f"{grid['study'].iloc[0]}{origin}\n{', '.join([*about, self.knob.label])}"

    @property
    def setting(self) -> Setting | None:
        """The setting of the study, by its data set; None where that is not known here."""
        return setting_of_table(self["grid"])


class Drawer(NamedTuple):
    """How a figure is drawn, and the numbers behind it, from the tables of a study."""

    figure: Callable[[Tables], Figure]
    data: Callable[[Tables], pd.DataFrame]


def _panel(metric: str) -> Drawer:
    def figure(tables: Tables) -> Figure:
        grid, regimes = tables["grid"], tables["regimes"]
        return phase.panel_figure(grid, regimes, tables.knob, tables.thresholds, metric, tables.title)

    return Drawer(figure, _phase_data)


def _phase(tables: Tables) -> Figure:
    grid, regimes = tables["grid"], tables["regimes"]
    return phase.phase_diagram(grid, regimes, tables.knob, tables.thresholds, tables.title)


def _phase_data(tables: Tables) -> pd.DataFrame:
    return phase.phase_table(tables["grid"], tables["regimes"])


def _error_against_load(tables: Tables) -> Figure:
    grid, selection, cells = tables["grid"], tables["selection"], tables["cells"]
    return against_load.error_against_load(grid, selection, tables.knob, title=tables.title, cells=cells)


def _tuning(tables: Tables) -> pd.DataFrame:
    return against_load.tuning_table(tables["grid"], tables["selection"], tables.knob, cells=tables["cells"])


def _threshold_sensitivity(tables: Tables) -> Figure:
    used = tables.thresholds
    return sensitivity.threshold_sensitivity(tables["sensitivity"], used.lmc, tables.title, used.inherited)


_ERROR_AGAINST_LOAD = Drawer(_error_against_load, _tuning)

DRAWERS: dict[str, Drawer] = {
    "phase_diagram": Drawer(_phase, _phase_data),
    "test_error": _panel("test_error"),
    "normalised_test_error": _panel("normalised_test_error"),
    "lmc": _panel("lmc"),
    "cka": _panel("cka_softmax"),
    "error_against_density": _ERROR_AGAINST_LOAD,
    "error_against_load": _ERROR_AGAINST_LOAD,
    "model_selection": Drawer(
        lambda tables: against_load.selection_comparison(tables["selection"], tables.title),
        lambda tables: against_load.selection_table(tables["selection"]),
    ),
    "threshold_sensitivity": Drawer(_threshold_sensitivity, lambda tables: tables["sensitivity"]),
    "seeds": Drawer(
        lambda tables: seeds.seed_points(tables["grid"], tables["cells"], tables.knob, title=tables.title),
        lambda tables: seeds.seed_table(tables["grid"], tables["cells"], tables.knob),
    ),
    "lmc_lines": Drawer(
        lambda tables: curves.lmc_lines(tables["lines"], tables.knob, title=tables.title),
        lambda tables: curves.chosen_lines(tables["lines"], tables.knob),
    ),
    "training_curves": Drawer(
        lambda tables: curves.training_curves(tables["curves"], tables.knob, title=tables.title),
        lambda tables: tables["curves"],
    ),
    "sparsity_per_layer": Drawer(
        lambda tables: layers.sparsity_per_layer(tables["sparsity"], tables.title),
        lambda tables: layers.kept_table(tables["sparsity"]),
    ),
    "bezier_lines": Drawer(
        lambda tables: curves.lmc_lines(tables["bezier_lines"], tables.knob, title=tables.title, path="Bezier curve"),
        lambda tables: curves.chosen_lines(tables["bezier_lines"], tables.knob),
    ),
    "planes": Drawer(
        lambda tables: planes.plane_maps(tables["planes"], tables.knob, tables.title),
        lambda tables: planes.shown(tables["planes"], tables.knob),
    ),
}
"""By figure name (`three_regime.study.outputs`). The column of an additional measure (`three_regime.config.measures`)
is a panel of its own name."""


def _drawer(name: str) -> Drawer:
    return DRAWERS.get(name) or _panel(name)


def drawn(tables: Tables, name: str) -> tuple[Figure, pd.DataFrame]:
    """One figure and the numbers behind it, in the words of the study's setting."""
    drawer = _drawer(name)
    figure = drawer.figure(tables)
    if tables.setting:
        reword(figure, tables.setting.words(name))
    return figure, drawer.data(tables)


def data_of(tables: Tables, name: str) -> pd.DataFrame:
    """The numbers behind one figure, without drawing it."""
    return _drawer(name).data(tables)


def draw(folder: Path, names: Sequence[str], thresholds: Thresholds) -> list[Path]:
    """Draw figures of the study whose tables are in `folder`; writes ``<folder>/figures/<name>.{pdf,png,csv}``.

    Parameters
    ----------
    thresholds
        Those that the tables were made with: a table of borders says them only where there is one.

    Raises
    ------
    UserError
        When a name is unknown, or a table is missing, damaged or lacks a column.
    """
    tables = Tables(Path(folder), thresholds)
    paths: list[Path] = []
    for name in names:
        if name not in DRAWERS and name not in measured_columns():
            raise UserError(f"unknown figure {name!r}; choose one of {', '.join([*DRAWERS, *measured_columns()])}")
        figure, data = drawn(tables, name)
        paths += save(figure, Path(folder) / "figures" / name, data)
    return paths


def draw_all(folder: Path, thresholds: Thresholds, names: Sequence[str]) -> list[Path]:
    """Those of the figures `names` (`Study.figures`) whose tables are there: of what was run there may be none."""
    run = (Path(folder) / "lines.csv").exists()
    return draw(folder, [name for name in names if run or name in (*GRID_FIGURES, *measured_columns())], thresholds)
