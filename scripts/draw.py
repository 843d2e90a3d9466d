"""Draw the figures of one study from its tables (`three_regime.figures`)."""

from pathlib import Path

from three_regime import figures
from three_regime.config import plugins
from three_regime.config.thresholds import Thresholds
from three_regime.logs import reporting

with reporting(f"draw {Path(snakemake.params.folder).name}", Path(snakemake.log[0])):
    plugins.load(snakemake.config.get("plugins") or ())
    thresholds = Thresholds(**snakemake.params.thresholds)
    figures.draw(Path(snakemake.params.folder), snakemake.params.figures, thresholds)
