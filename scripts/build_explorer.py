"""The explorer of all studies from their tables (`three_regime.figures.explorer`)."""

from pathlib import Path

from three_regime.config.thresholds import Thresholds
from three_regime.figures import explorer
from three_regime.workflow.running import script

with script(snakemake, "explorer"):
    folders = {Path(folder): Thresholds(**values) for folder, values in snakemake.params.thresholds.items()}
    published = snakemake.params.published
    explorer.write(Path(snakemake.output[0]), folders, Thresholds(**published) if published else None)
