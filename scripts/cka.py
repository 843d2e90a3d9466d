"""CKA: similarity of the outputs of each pair of replicas."""

from three_regime.workflow.running import run_script

run_script(snakemake, "cka")
