"""Published against obtained (`three_regime.scorecard`)."""

from pathlib import Path

import pandas as pd

from three_regime import reference, scorecard, scorecard_files, statistics
from three_regime.logs import reporting
from three_regime.thresholds import Thresholds

with reporting("scorecard", Path(snakemake.log[0])):
    published = reference.load()
    grids = [pd.read_csv(path) for path in snakemake.input.grids]
    nothing = statistics.grid(reference.as_cells(published)).iloc[:0]
    obtained = pd.concat(grids, ignore_index=True) if grids else nothing
    settings = snakemake.params.settings
    card = scorecard.score(
        published,
        obtained,
        thresholds=Thresholds(**snakemake.params.thresholds),
        deviating=scorecard.deviations(settings, reference.protocol()) if settings else (),
    )
    scorecard_files.write(Path(snakemake.output.markdown).parent, card)
