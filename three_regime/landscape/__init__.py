"""The loss landscape of retrained networks: linear mode connectivity, linear CKA and additional measures.

Belongs here: measures of a network or a pair of networks, as formulas of errors, outputs and weights. Not here: the
registry of additional measures (`three_regime.config.measures`), loading replicas and writing results
(`three_regime.jobs`), regimes (`three_regime.analysis`).
"""
