"""Retraining of the pruned networks; one pack holds every density and replica of a dense checkpoint."""

from three_regime.workflow.running import run_script

run_script(snakemake, "retrain")
