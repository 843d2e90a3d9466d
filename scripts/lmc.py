"""Linear mode connectivity: the barrier between each pair of replicas."""

from three_regime.workflow.bridge import run_script

run_script(snakemake, "lmc")
