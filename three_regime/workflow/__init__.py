"""Snakemake: what rules (`rule_parts`), runs and their jobs (`running`) and the `workflow` command need.

Belongs here: everything that knows Snakemake, its records, its lock and its SLURM plugin. Not here: anything that
`run-stage` needs, which works without Snakemake. No torch.
"""
