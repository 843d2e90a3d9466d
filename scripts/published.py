"""The published Figure 2, digitised, as a table of cells (`three_regime.reference`)."""

from pathlib import Path

from three_regime import reference
from three_regime.logs import reporting
from three_regime.storage import write_csv

with reporting("published", Path(snakemake.log[0])):
    write_csv(Path(snakemake.output[0]), reference.as_cells(reference.load()))
