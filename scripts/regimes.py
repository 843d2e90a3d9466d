"""Grid, regimes, boundaries and algorithms of one study from its cells (`three_regime.analysis`)."""

from pathlib import Path

from three_regime import analysis, regimes
from three_regime.logs import reporting
from three_regime.stages import PUBLISHED
from three_regime.thresholds import Thresholds

with reporting(f"regimes {snakemake.params.study}", Path(snakemake.log[0])):
    drawn = regimes.drawn_labels() if snakemake.params.study == PUBLISHED else None
    analysis.write(Path(snakemake.input.cells).parent, Thresholds(**snakemake.params.thresholds), drawn)
