"""Figures, drawn from the tables of a study and never from tensors; each is saved with the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from three_regime.errors import UserError
from three_regime.figures import curves, densities, layers, phase, sensitivity
from three_regime.figures.output import save
from three_regime.knobs import KNOBS, Knob


@dataclass(frozen=True)
class Tables:
    """The tables of one study, read when they are asked for."""

    folder: Path

    def __getitem__(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            raise UserError(f"{path} is missing: make the tables first")
        return pd.read_csv(path)

    @property
    def knob(self) -> Knob:
        """The study's knob."""
        return KNOBS[self["grid"]["knob"].iloc[0]]

    @property
    def threshold(self) -> float | None:
        """The LMC threshold in use, where a boundary was found with it."""
        lines = self["boundaries"]
        values = lines.loc[lines["boundary"] == "lmc", "threshold"]
        return float(values.iloc[0]) if len(values) else None


def _phase(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    grid, regimes = tables["grid"], tables["regimes"]
    title = ", ".join(str(grid[column].iloc[0]) for column in ("model", "dataset") if column in grid)
    figure = phase.phase_diagram(grid, regimes, tables["boundaries"], tables.knob, title)
    return figure, phase.phase_table(grid, regimes)


def _panel(metric: str) -> Callable[[Tables], tuple[Figure, pd.DataFrame]]:
    def draw_panel(tables: Tables) -> tuple[Figure, pd.DataFrame]:
        grid, regimes = tables["grid"], tables["regimes"]
        figure = phase.panel_figure(grid, regimes, tables["boundaries"], tables.knob, metric)
        return figure, phase.phase_table(grid, regimes)

    return draw_panel


def _error_against_density(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    grid, selection = tables["grid"], tables["selection"]
    return densities.error_against_density(grid, selection, tables.knob), densities.tuning_table(grid, selection)


def _model_selection(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    selection = tables["selection"]
    return densities.selection_comparison(selection), densities.selection_table(selection)


def _threshold_sensitivity(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    table = tables["sensitivity"]
    return sensitivity.threshold_sensitivity(table, tables.threshold), table


def _lmc_lines(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    lines = tables["lines"]
    return curves.lmc_lines(lines, tables.knob), curves.chosen_lines(lines, tables.knob)


def _training_curves(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    table = tables["curves"]
    return curves.training_curves(table, tables.knob), table


def _sparsity_per_layer(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    table = tables["sparsity"]
    return layers.sparsity_per_layer(table), layers.kept_table(table)


DRAWERS: dict[str, Callable[[Tables], tuple[Figure, pd.DataFrame]]] = {
    "phase_diagram": _phase,
    "test_error": _panel("test_error"),
    "normalised_test_error": _panel("normalised_test_error"),
    "lmc": _panel("lmc"),
    "cka": _panel("cka_softmax"),
    "error_against_density": _error_against_density,
    "model_selection": _model_selection,
    "threshold_sensitivity": _threshold_sensitivity,
    "lmc_lines": _lmc_lines,
    "training_curves": _training_curves,
    "sparsity_per_layer": _sparsity_per_layer,
}
"""Figure name (``stages.GRID_FIGURES``, ``stages.RUN_FIGURES``) → a function of a study's tables."""


def draw(folder: Path, names: Sequence[str]) -> list[Path]:
    """Draw figures of the study whose tables are in `folder`; writes ``<folder>/figures/<name>.{pdf,png,csv}``.

    Raises
    ------
    UserError
        When a table is missing or lacks a column.
    """
    tables = Tables(Path(folder))
    paths: list[Path] = []
    for name in names:
        figure, data = DRAWERS[name](tables)
        paths += save(figure, Path(folder) / "figures" / name, data)
    return paths
