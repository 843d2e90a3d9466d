"""One data set as training maps it (`three_regime.datasets.prepare`)."""

from pathlib import Path

from three_regime.config import resolve
from three_regime.datasets.prepare import chosen, prepare
from three_regime.logs import reporting

recipe = snakemake.params.recipe
with reporting(f"prepare {recipe['dataset']}", Path(snakemake.log[0])):
    prepare(chosen(recipe), Path(resolve(snakemake.config).data.folder))
