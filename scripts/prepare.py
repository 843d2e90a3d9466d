"""Prepare one data set (`three_regime.preparation.prepare`)."""

from pathlib import Path

from three_regime.config import resolve
from three_regime.logs import reporting
from three_regime.preparation.prepare import chosen, prepare

recipe = snakemake.params.recipe
with reporting(f"prepare {recipe['dataset']}", Path(snakemake.log[0])):
    config = resolve(snakemake.config)  # first: a plugin may register the data set
    prepare(chosen(recipe), Path(config.data.folder))
