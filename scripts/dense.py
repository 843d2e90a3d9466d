"""Dense training; with the epochs knob, one run yields every early-stop checkpoint."""

from three_regime.workflow.running import run_script

run_script(snakemake, "dense")
