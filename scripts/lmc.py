"""Linear mode connectivity: the barrier between each pair of replicas."""

from three_regime.workflow import run_script

run_script(snakemake, "lmc")
