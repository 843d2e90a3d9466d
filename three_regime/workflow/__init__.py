"""The bridge to Snakemake: parts of rules (`rule_parts`), runs and their jobs (`running`), and the `workflow` command.

Belongs here: all code that depends on Snakemake, its records, its lock and its SLURM plugin. Not here: anything that
`run-stage` needs, which works without Snakemake. Does not import torch.
"""
