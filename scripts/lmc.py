"""Linear mode connectivity: the barrier between each pair of replicas."""

from three_regime.workflow.running import run_script

run_script(snakemake, "lmc")
