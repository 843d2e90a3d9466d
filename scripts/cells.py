"""Build the tables of one study from its result files (`three_regime.analysis.tables`)."""

from three_regime.analysis import tables
from three_regime.config import resolve
from three_regime.study.grid import study_named
from three_regime.workflow.running import script

with script(snakemake, f"cells {snakemake.params.study}"):
    tables.write(study_named(resolve(snakemake.config), snakemake.params.study))
