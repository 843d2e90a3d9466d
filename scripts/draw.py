"""Draw the figures of one study from its tables (`three_regime.figures`)."""

from pathlib import Path

from three_regime import figures
from three_regime.config.thresholds import Thresholds
from three_regime.workflow.running import script

with script(snakemake, f"draw {Path(snakemake.params.folder).name}"):
    thresholds = Thresholds(**snakemake.params.thresholds)
    figures.draw(Path(snakemake.params.folder), snakemake.params.figures, thresholds)
