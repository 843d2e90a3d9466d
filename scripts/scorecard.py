"""Score the obtained cells against the published Figure 2 (`three_regime.analysis.scorecard`)."""

from pathlib import Path

import pandas as pd

from three_regime.analysis import figure2, references, scorecard, scorecard_files, seed_means
from three_regime.config.thresholds import Thresholds
from three_regime.logs import reporting

with reporting("scorecard", Path(snakemake.log[0])):
    published = references.published()
    grids = [pd.read_csv(path) for path in snakemake.input.grids]
    nothing = seed_means.grid(figure2.as_cells(published.cells)).iloc[:0]
    obtained = pd.concat(grids, ignore_index=True) if grids else nothing
    settings = snakemake.params.settings
    card = scorecard.score(
        published,
        obtained,
        thresholds=Thresholds(**snakemake.params.thresholds),
        deviating=scorecard.deviations(settings, published.protocol) if settings else (),
    )
    scorecard_files.write(Path(snakemake.output.markdown).parent, card)
