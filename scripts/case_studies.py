"""Run case studies 2 and 3 over all planned studies (`three_regime.analysis.case_studies`)."""

from pathlib import Path

from three_regime.analysis import case_studies
from three_regime.config.thresholds import Thresholds
from three_regime.workflow.running import script

with script(snakemake, "case studies"):
    grids = [Path(path) for path in snakemake.input]
    thresholds = {study: Thresholds(**values) for study, values in snakemake.params.thresholds.items()}
    folder, given = Path(snakemake.output[0]).parent, snakemake.params
    case_studies.write(folder, grids, thresholds, given.families, given.plain)
