"""Join the cells of studies that differ in one load (`three_regime.analysis.load_grids`)."""

from pathlib import Path

from three_regime.analysis import load_grids
from three_regime.workflow.running import script

with script(snakemake, f"load_grid {snakemake.params.grid}"):
    about = snakemake.params
    cells = dict(zip(about.loads, map(Path, snakemake.input), strict=True))
    load_grids.write(Path(snakemake.output[0]), about.grid, about.load, about.density, cells)
