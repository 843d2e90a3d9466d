"""Weights that a study does not keep (`three_regime.keeping`)."""

from pathlib import Path

from three_regime import keeping
from three_regime.config import resolve
from three_regime.logs import reporting
from three_regime.study import study

with reporting(f"discard {snakemake.params.study}", Path(snakemake.log[0])):
    config = resolve(snakemake.config)
    name, seed = snakemake.params.study, int(snakemake.wildcards.seed)
    temperature = study(config, name).temperature_of(snakemake.wildcards.temperature)
    keeping.discard(config, name, seed, temperature)
