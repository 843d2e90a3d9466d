"""Estimate disk space of everything except checkpoints: tables, figures, the report, logs.

Measured on two grids of this project, 2 x 2 (``config/tiny.yaml``) and 16 x 9 (``config/reference.yaml``), and assumed
linear in the number of cells and rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from three_regime.config import Config
from three_regime.planning.pricing import Pricer
from three_regime.study.grid import Study

_CURVE_ROW, _LINE_ROW, _SPARSITY_ROW, _REPLICA_ROW, _PAIR_ROW, _PROVENANCE_ROW, _CELL_ROW = (
    92,
    72,
    41,
    98,
    172,
    156,
    333,
)
"""Bytes per row of the tables built from result files."""

_REGIME_TABLES, _REGIME_ROW = 6_900, 660
"""Bytes of the regime and algorithm tables, and per cell."""

_GRID_PNG, _GRID_PNG_CELL, _GRID_VECTOR, _GRID_VECTOR_CELL = 894_000, 4_100, 197_000, 1_420
"""Bytes of the figures of a grid, and per cell: as PNG, and as PDF with CSV."""

_RUN_PNG, _RUN_PDF = 451_000, 55_400
"""Bytes of the figures of training runs, without their CSV files, which repeat the tables."""

_REPORT, _BASE64 = 3_020_000, 4 / 3
"""Bytes of Snakemake's report without figures; growth factor of a PNG in it (base64)."""

_SETTINGS, _CASES, _SCORECARD, _CELL_SCORE = 22_700, 1_100, 3_000, 455
"""Bytes of config.yaml, of the case studies, of the scorecard, and per published cell in it."""

_JOB, _MEMBER_LINES = 400, 110
"""Bytes of a job's log and benchmark, and per member in the log."""

PUBLISHED_CELLS = 144


@dataclass(frozen=True)
class Analysis:
    """Bytes of a study's tables and figures; PNG files separately from PDF and CSV."""

    tables: float
    vector: float
    png: float

    @property
    def total(self) -> float:
        return self.tables + self.vector + self.png


def of_analysis(study: Study, pricer: Pricer) -> Analysis:
    """Size of the tables and figures of a finished study."""
    config = study.config
    runs = len(config.dense_seeds) * len(config.temperatures)
    cells = runs * len(config.densities)
    replicas, pairs = cells * len(config.replicas), cells * len(study.pairs)
    epochs = len(config.dense_seeds) * sum(pricer.dense_epochs(value) for value in config.temperatures)
    epochs += replicas * pricer.retrain_epochs
    curves, lines = _CURVE_ROW * epochs, _LINE_ROW * pairs * config.measure.points
    sparsity = _SPARSITY_ROW * cells * pricer.network.prunable_tensors
    grid = len(config.temperatures) * len(config.densities)
    tables = (
        curves + lines + sparsity
        + _REPLICA_ROW * replicas
        + _PAIR_ROW * pairs
        + _PROVENANCE_ROW * (runs + cells + replicas + 2 * pairs)
        + _CELL_ROW * cells
        + _REGIME_TABLES + _REGIME_ROW * grid
    )  # fmt: skip
    vector = _GRID_VECTOR + _GRID_VECTOR_CELL * grid + _RUN_PDF + curves + lines + sparsity
    return Analysis(tables, vector, _GRID_PNG + _GRID_PNG_CELL * grid + _RUN_PNG)


def of_published() -> Analysis:
    """Size of the tables and figures of the published grid."""
    grid = PUBLISHED_CELLS
    tables = 18_300 + _REGIME_TABLES + _REGIME_ROW * grid
    return Analysis(tables, _GRID_VECTOR + _GRID_VECTOR_CELL * grid, _GRID_PNG + _GRID_PNG_CELL * grid)


def of_comparison(config: Config) -> float:
    """Size of the tables over all studies."""
    return (_CASES if config.run else 0) + (_SCORECARD + _CELL_SCORE * PUBLISHED_CELLS if config.published else 0)


def of_report(png: float) -> float:
    """Size of the report and the settings; `png`: bytes of the figures as PNG."""
    return _REPORT + _BASE64 * png + _SETTINGS


def of_logs(jobs: int, members: int) -> float:
    """Size of logs and benchmarks."""
    return _JOB * jobs + _MEMBER_LINES * members
