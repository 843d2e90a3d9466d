"""CKA: how similar the outputs of each pair of replicas are."""

from three_regime.workflow.running import run_script

run_script(snakemake, "cka")
