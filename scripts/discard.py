"""Remove the weights that a study does not keep (`three_regime.jobs.discarding`)."""

from pathlib import Path

from three_regime.config import resolve
from three_regime.jobs import discarding
from three_regime.logs import reporting
from three_regime.study.grid import study_named

with reporting(f"discard {snakemake.params.study}", Path(snakemake.log[0])):
    config = resolve(snakemake.config)
    name, seed = snakemake.params.study, int(snakemake.wildcards.seed)
    temperature = study_named(config, name).temperature_of(snakemake.wildcards.temperature)
    discarding.discard(config, name, seed, temperature)
