"""Every figure of a study from the tables in its folder, each saved with the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from three_regime.config.knobs import KNOBS, Knob
from three_regime.config.loads import DENSITY, load_of
from three_regime.config.measures import measured_columns
from three_regime.config.thresholds import Thresholds
from three_regime.datasets.registry import DATASETS
from three_regime.errors import UserError
from three_regime.figures import against_load, curves, layers, phase, planes, seeds, sensitivity
from three_regime.figures.output import save
from three_regime.figures.wording import reword
from three_regime.settings import Setting, setting_of
from three_regime.study.outputs import GRID_FIGURES


@dataclass(frozen=True)
class Tables:
    """The tables of one study, read when they are asked for, and the thresholds that they were made with."""

    folder: Path
    thresholds: Thresholds

    def __getitem__(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.csv"
        try:
            return pd.read_csv(path).copy()  # in one piece, as `read_table`
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: make the tables first") from error
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a complete table ({error}); delete it and make it again") from error

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
        grid = self["grid"]
        entry = DATASETS.get(str(grid["dataset"].iloc[0])) if "dataset" in grid and len(grid) else None
        return setting_of(entry.kind) if entry else None


Drawn = tuple[Figure, pd.DataFrame]


def _phase(tables: Tables) -> Drawn:
    grid, regimes = tables["grid"], tables["regimes"]
    figure = phase.phase_diagram(grid, regimes, tables.knob, tables.thresholds, tables.title)
    return figure, phase.phase_table(grid, regimes)


def _panel(metric: str) -> Callable[[Tables], Drawn]:
    def draw_panel(tables: Tables) -> Drawn:
        grid, regimes = tables["grid"], tables["regimes"]
        figure = phase.panel_figure(grid, regimes, tables.knob, tables.thresholds, metric, tables.title)
        return figure, phase.phase_table(grid, regimes)

    return draw_panel


def _error_against_load(tables: Tables) -> Drawn:
    grid, selection, cells, knob = tables["grid"], tables["selection"], tables["cells"], tables.knob
    figure = against_load.error_against_load(grid, selection, knob, title=tables.title, cells=cells)
    return figure, against_load.tuning_table(grid, selection, knob, cells=cells)


def _model_selection(tables: Tables) -> Drawn:
    selection = tables["selection"]
    return against_load.selection_comparison(selection, tables.title), against_load.selection_table(selection)


def _threshold_sensitivity(tables: Tables) -> Drawn:
    table = tables["sensitivity"]
    used = tables.thresholds
    return sensitivity.threshold_sensitivity(table, used.lmc, tables.title, used.inherited), table


def _lmc_lines(tables: Tables) -> Drawn:
    lines, knob = tables["lines"], tables.knob
    return curves.lmc_lines(lines, knob, title=tables.title), curves.chosen_lines(lines, knob)


def _seeds(tables: Tables) -> Drawn:
    grid, cells, knob = tables["grid"], tables["cells"], tables.knob
    return seeds.seed_points(grid, cells, knob, title=tables.title), seeds.seed_table(grid, cells, knob)


def _training_curves(tables: Tables) -> Drawn:
    table = tables["curves"]
    return curves.training_curves(table, tables.knob, title=tables.title), table


def _sparsity_per_layer(tables: Tables) -> Drawn:
    table = tables["sparsity"]
    return layers.sparsity_per_layer(table, tables.title), layers.kept_table(table)


def _planes(tables: Tables) -> Drawn:
    table, knob = tables["planes"], tables.knob
    return planes.plane_maps(table, knob, tables.title), planes.shown(table, knob)


DRAWERS: dict[str, Callable[[Tables], Drawn]] = {
    "phase_diagram": _phase,
    "test_error": _panel("test_error"),
    "normalised_test_error": _panel("normalised_test_error"),
    "lmc": _panel("lmc"),
    "cka": _panel("cka_softmax"),
    "error_against_density": _error_against_load,
    "error_against_load": _error_against_load,
    "model_selection": _model_selection,
    "threshold_sensitivity": _threshold_sensitivity,
    "seeds": _seeds,
    "lmc_lines": _lmc_lines,
    "training_curves": _training_curves,
    "sparsity_per_layer": _sparsity_per_layer,
    "planes": _planes,
}
"""Figure name (`three_regime.study.outputs`) → a function of a study's tables. The column of an additional measure
(`three_regime.config.measures`) is a panel of its own name."""


def drawn(tables: Tables, name: str) -> Drawn:
    """One figure and the numbers behind it, in the words of the study's setting."""
    figure, data = DRAWERS.get(name, _panel(name))(tables)
    if tables.setting:
        reword(figure, tables.setting.words(name))
    return figure, data


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
