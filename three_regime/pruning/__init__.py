"""Pruning: select the weights of a dense network to remove.

Belongs here: criteria (`criteria`; `magnitude`, paper section 3.1), allocation of the density to layers (`allocation`)
and masks (`masks`), in NumPy. Not here: gradients (`three_regime.jobs.prune`), retraining (`three_regime.training`),
storage (`three_regime.system.sparse_encoding`).
"""
