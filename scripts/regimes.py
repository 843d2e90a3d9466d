"""Build grid, regimes, boundaries and algorithms of one study (`three_regime.analysis.regime_tables`)."""

from pathlib import Path

from three_regime.analysis import regime_tables, regimes
from three_regime.config import plugins
from three_regime.config.thresholds import Thresholds
from three_regime.logs import reporting
from three_regime.study.outputs import PUBLISHED

with reporting(f"regimes {snakemake.params.study}", Path(snakemake.log[0])):
    plugins.load(snakemake.config.get("plugins") or ())
    drawn = regimes.drawn_labels() if snakemake.params.study == PUBLISHED else None
    regime_tables.write(Path(snakemake.input.cells).parent, Thresholds(**snakemake.params.thresholds), drawn)
