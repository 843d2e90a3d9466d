"""Pruning: select the weights of a dense network to remove.

Belongs here: criteria (`magnitude`, paper section 3.1) and masks (`masks`), in NumPy. Not here: retraining
(`three_regime.training`), storage (`three_regime.system.sparse_encoding`).
"""
