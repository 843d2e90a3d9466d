"""Pruning: which weights of a dense network are removed.

Belongs here: criteria (`magnitude`, paper section 3.1) and masks (`masks`), in NumPy alone. Not here: retraining a
pruned network (`three_regime.training`), storing it (`three_regime.system.sparse_encoding`).
"""
