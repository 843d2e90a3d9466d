"""Remove the weights that a study does not keep (`three_regime.jobs.discarding`)."""

from three_regime.config import resolve
from three_regime.jobs import discarding
from three_regime.study.grid import study_named
from three_regime.workflow.running import script

with script(snakemake, f"discard {snakemake.params.study}"):
    config = resolve(snakemake.config)
    name, seed = snakemake.params.study, int(snakemake.wildcards.seed)
    temperature = study_named(config, name).temperature_of(snakemake.wildcards.temperature)
    discarding.discard(config, name, seed, temperature)
