"""Score the obtained cells against the published Figure 2 (`three_regime.analysis.scorecard`)."""

from pathlib import Path

from three_regime.analysis import scorecard, scorecard_files
from three_regime.config.thresholds import Thresholds
from three_regime.workflow.running import script

with script(snakemake, "scorecard"):
    grids = [Path(path) for path in snakemake.input.grids]
    thresholds = Thresholds(**snakemake.params.thresholds)
    card = scorecard.of_grids(grids, thresholds, snakemake.params.settings)
    scorecard_files.write(Path(snakemake.output.markdown).parent, card)
