"""Retraining of the pruned networks: every density and replica of a dense checkpoint in one pack."""

from three_regime.workflow.running import run_script

run_script(snakemake, "retrain")
