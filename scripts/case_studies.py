"""Case studies 2 and 3 over all planned studies (`three_regime.case_studies`)."""

from pathlib import Path

import pandas as pd

from three_regime import case_studies
from three_regime.logs import reporting
from three_regime.storage import write_csv
from three_regime.thresholds import Thresholds

with reporting("case studies", Path(snakemake.log[0])):
    grids = [pd.read_csv(path) for path in snakemake.input]
    thresholds = {study: Thresholds(**values) for study, values in snakemake.params.thresholds.items()}
    tables = case_studies.build(grids, thresholds)
    for path, table in zip(snakemake.output, tables.values(), strict=True):
        write_csv(Path(path), table)
