"""Measures beside LMC and CKA: of the retrained networks of each cell."""

from three_regime.workflow.running import run_script

run_script(snakemake, "measures")
