"""File names of tables and figures, of one study and over all studies."""

from __future__ import annotations

SETTINGS_FILE = "config.yaml"
"""All settings of a run, with defaults filled in; written beside its results and into exports."""


PLUGINS = "plugins"
"""Folder of an export with copies of the plugin files that its settings name; never run unless asked for."""


STATE_FOLDER = ".state"
"""Folder below the results for training state and links to finished results, with the same relative paths."""


CASE_FOLDER = "case_studies"
"""Folder of ``CASE_TABLES``, beside the studies."""


FIGURE_FORMATS = ("pdf", "png", "csv")
"""Formats of each figure; the CSV holds the plotted data."""


CELL_TABLES = ("cells", "replicas", "pairs", "lines", "curves", "sparsity", "provenance")
"""Tables built from the result files of a study (`three_regime.analysis.tables`)."""


MEASURE_TABLES = ("bezier_lines", "planes")
"""Tables of additional measures with results at many places, each with a figure of its name (`Measure.table`)."""


TABLES_VERSION = 3
"""Increased by hand when a table has other columns or is computed otherwise, so finished studies rebuild theirs."""


REGIME_TABLES = ("grid", "regimes", "boundaries", "selection", "selection_summary", "sensitivity", "leave_one_out")
"""Tables computed from ``cells.csv`` (`three_regime.analysis.regime_tables`)."""


REPORTED_TABLES = ("regimes", "selection_summary")
"""Tables of ``REGIME_TABLES`` that the report shows beside the figures."""


CLAIM_FILES = ("claims.csv", "claims.md")
"""Files written for a study with claims (`three_regime.analysis.claims`)."""


CASE_TABLES = ("family", "family_summary", "sam")
"""Tables over all studies: case studies 2 and 3 (`three_regime.analysis.case_studies`)."""


SCORECARD_FILES = ("scorecard.csv", "scorecard_cells.csv", "scorecard.md")
"""Headline numbers, cells and Markdown page of the scorecard (`three_regime.analysis.scorecard_files`)."""

EXPLORER_FILE = "explorer.html"
"""The explorer of all studies (`three_regime.figures.explorer`)."""

OVERALL_FILES = (*SCORECARD_FILES, *(f"{CASE_FOLDER}/{table}.csv" for table in CASE_TABLES), EXPLORER_FILE)
"""Files made over all studies, relative to the results folder."""


GRID_FIGURES = (
    "phase_diagram",
    "test_error",
    "normalised_test_error",
    "lmc",
    "cka",
    "error_against_density",
    "model_selection",
    "threshold_sensitivity",
)
"""Figures that need only ``REGIME_TABLES``, each as PDF, PNG and CSV."""


LOAD_GRID_FIGURES = (*(name.replace("density", "load") for name in GRID_FIGURES), "seeds")
"""Figures of a grid over another load (`three_regime.study.load_grids`), which has no training runs of its own."""


RUN_FIGURES = ("seeds", "lmc_lines", "training_curves")
"""Figures of the training runs, which need ``CELL_TABLES`` too."""


LAYER_FIGURES = ("sparsity_per_layer",)
"""Additional figures with non-uniform allocation; with uniform allocation every layer keeps the same share."""


FIGURE2_STUDY = "cifar10-preresnet20-epochs"
"""The study that repeats the published Figure 2."""


PUBLISHED = "published"
"""Folder of tables and figures of the published numbers, beside the studies."""
