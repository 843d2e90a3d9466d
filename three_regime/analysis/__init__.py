"""From result files to tables and decisions: cells, regimes, algorithms, claims, scorecard.

Belongs here: everything that is computed from tables, and the tables themselves. Not here: pictures
(`three_regime.figures`). No torch.
"""
