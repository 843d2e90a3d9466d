"""Grid, regimes, boundaries and algorithms of one study from its cells (`three_regime.analysis`)."""

from pathlib import Path

from three_regime import analysis
from three_regime.config import resolve
from three_regime.logs import reporting
from three_regime.regimes import Thresholds
from three_regime.study import study

with reporting(f"regimes {snakemake.params.study}", Path(snakemake.log[0])):
    config = resolve(snakemake.config)
    thresholds = Thresholds(lmc=config.regimes.lmc, cka=config.regimes.cka)
    analysis.write(study(config, snakemake.params.study).folder, thresholds)
