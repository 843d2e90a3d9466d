"""Build the tables of one study from its result files (`three_regime.analysis.tables`)."""

from pathlib import Path

from three_regime.analysis import tables
from three_regime.config import resolve
from three_regime.logs import reporting
from three_regime.study.grid import study_named

with reporting(f"cells {snakemake.params.study}", Path(snakemake.log[0])):
    tables.write(study_named(resolve(snakemake.config), snakemake.params.study))
