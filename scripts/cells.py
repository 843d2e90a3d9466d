"""Tables of one study from its result files (`three_regime.tables`)."""

from pathlib import Path

from three_regime import tables
from three_regime.config import resolve
from three_regime.logs import reporting
from three_regime.study import study

with reporting(f"cells {snakemake.params.study}", Path(snakemake.log[0])):
    tables.write(study(resolve(snakemake.config), snakemake.params.study))
