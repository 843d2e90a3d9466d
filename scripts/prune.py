"""One-shot magnitude pruning of each dense checkpoint to every density."""

from three_regime.workflow.running import run_script

run_script(snakemake, "prune")
