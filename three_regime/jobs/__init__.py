"""Jobs: each stage of the method for one dense seed and temperature.

Belongs here: a module per stage (`dense`, `prune`, `retrain`, `lmc`, `cka`, `measures`) that loads, computes and
writes, and code that they share. Not here: the method itself, which the stages take from `three_regime.pruning`,
`three_regime.training` and `three_regime.landscape`; rules of Snakemake. Start at `run.run_job`.
"""
