"""Before and during a run: what it costs, how far it is, and why something would be computed.

Belongs here: `plan`, `status`, `explain`, `presets` and the prices behind them. Nothing here computes or writes
results.
"""
