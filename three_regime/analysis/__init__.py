"""Tables and decisions from result files: cells, regimes, algorithms, claims, scorecard.

Belongs here: tables and everything computed from them. Not here: plots (`three_regime.figures`). Does not import torch.
"""
