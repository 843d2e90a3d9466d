"""Write the digitised published Figure 2 as a table of cells (`three_regime.analysis.figure2`)."""

from pathlib import Path

from three_regime.analysis import figure2
from three_regime.system.files import write_csv
from three_regime.workflow.running import script

with script(snakemake, "published"):
    write_csv(Path(snakemake.output[0]), figure2.as_cells(figure2.load()))
