"""Pruning: which weights of a dense network are removed.

Belongs here: scores of weights (`criteria`; `magnitude` is the paper's, section 3.1), how many weights each layer loses
(`allocation`) and masks (`masks`), in NumPy alone. Not here: gradients (`three_regime.jobs.prune`), retraining a
pruned network (`three_regime.training`), storing it (`three_regime.system.sparse_encoding`).
"""
