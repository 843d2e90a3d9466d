"""Prune each dense checkpoint to every density, by default in one shot and by magnitude."""

from three_regime.workflow.running import run_script

run_script(snakemake, "prune")
