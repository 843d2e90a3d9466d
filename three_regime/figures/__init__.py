"""Figures, drawn from tables alone.

Belongs here: every figure, their style and words, and the explorer (`explorer`). Not here: the numbers behind them
(`three_regime.analysis`); nothing here reads a tensor or imports torch.
"""

from three_regime.figures.against_load import error_against_load, selection_comparison, selection_table, tuning_table
from three_regime.figures.curves import chosen_lines, lmc_lines, training_curves
from three_regime.figures.layers import kept_table, sparsity_per_layer
from three_regime.figures.output import save
from three_regime.figures.phase import panel_figure, phase_diagram, phase_table
from three_regime.figures.planes import plane_maps
from three_regime.figures.seeds import seed_points, seed_table
from three_regime.figures.sensitivity import threshold_sensitivity
from three_regime.figures.study import draw, draw_all

__all__ = [
    "chosen_lines",
    "draw",
    "draw_all",
    "error_against_load",
    "kept_table",
    "lmc_lines",
    "panel_figure",
    "phase_diagram",
    "phase_table",
    "plane_maps",
    "save",
    "seed_points",
    "seed_table",
    "selection_comparison",
    "selection_table",
    "sparsity_per_layer",
    "threshold_sensitivity",
    "training_curves",
    "tuning_table",
]
