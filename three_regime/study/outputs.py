"""Names of the tables and figures that are made of a study, and of what is made over all studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from three_regime.config.measures import MEASURES

if TYPE_CHECKING:
    from three_regime.config import StudyConfig

SETTINGS_FILE = "config.yaml"
"""Every setting of a run, defaults filled in: beside its results, and in an export."""


STATE_FOLDER = ".state"
"""Folder in that of the results: training state, and links to finished results, by the paths of the results."""


CASE_FOLDER = "case_studies"
"""Folder, among the studies, of ``CASE_TABLES``."""


FIGURE_FORMATS = ("pdf", "png", "csv")
"""Each figure is written in these; the CSV holds what it is drawn from."""


CELL_TABLES = ("cells", "replicas", "pairs", "lines", "curves", "sparsity", "provenance")
"""Tables of a study that are gathered from its result files (`three_regime.analysis.tables`)."""


TABLES_VERSION = 2
"""Raised by hand when the columns of ``CELL_TABLES`` change: those of finished studies are then made again."""


REGIME_TABLES = ("grid", "regimes", "boundaries", "selection", "selection_summary", "sensitivity", "leave_one_out")
"""Tables that are computed from ``cells.csv`` (`three_regime.analysis.regime_tables`)."""


CLAIM_FILES = ("claims.csv", "claims.md")
"""What is written for a study that states claims (`three_regime.analysis.claims`)."""


CASE_TABLES = ("family", "family_summary", "sam")
"""Tables over all studies: case studies 2 and 3 (`three_regime.analysis.case_studies`)."""


SCORECARD_FILES = ("scorecard.csv", "scorecard_cells.csv", "scorecard.md")
"""Headline numbers, cells and page of the scorecard (`three_regime.analysis.scorecard_files`)."""

OVERALL_FILES = (*SCORECARD_FILES, *(f"{CASE_FOLDER}/{table}.csv" for table in CASE_TABLES))
"""Tables and page that are made over all studies, below the folder of the results."""


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
"""Figures that need the tables of ``REGIME_TABLES`` alone, each as PDF, PNG and the CSV behind it."""


RUN_FIGURES = ("seeds", "lmc_lines", "training_curves", "sparsity_per_layer")
"""Figures of what was run: they need ``CELL_TABLES`` too."""


def figures_of(config: StudyConfig) -> tuple[str, ...]:
    """The figures of a study: those of every study, and one for each column that it measures beside LMC and CKA."""
    also = (column.name for name in config.measure.also for column in MEASURES[name].columns)
    return (*GRID_FIGURES, *RUN_FIGURES, *also)


FIGURE2_STUDY = "cifar10-preresnet20-epochs"
"""The study that repeats the published Figure 2."""


PUBLISHED = "published"
"""Folder, among the studies, of the tables and figures that are made from the published numbers."""
