"""Prepare one data set (`three_regime.preparation.prepare`)."""

from pathlib import Path

from three_regime.config import resolve
from three_regime.preparation.prepare import chosen, prepare
from three_regime.workflow.running import script

recipe = snakemake.params.recipe
with script(snakemake, f"prepare {recipe['dataset']}"):
    prepare(chosen(recipe), Path(resolve(snakemake.config).data.folder))
