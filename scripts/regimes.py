"""Build grid, regimes, boundaries and algorithms of one study (`three_regime.analysis.regime_tables`)."""

from pathlib import Path

from three_regime.analysis import regime_tables, regimes
from three_regime.config.thresholds import Thresholds
from three_regime.study.outputs import PUBLISHED
from three_regime.workflow.running import script

with script(snakemake, f"regimes {snakemake.params.study}"):
    drawn = regimes.drawn_labels() if snakemake.params.study == PUBLISHED else None
    regime_tables.write(Path(snakemake.input.cells).parent, Thresholds(**snakemake.params.thresholds), drawn)
