"""Additional measures of the replicas and of each pair of them (`measure.also`)."""

from three_regime.workflow.running import run_script

run_script(snakemake, "measures")
