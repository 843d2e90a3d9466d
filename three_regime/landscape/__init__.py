"""The loss landscape between retrained networks: linear mode connectivity and linear CKA.

Belongs here: measures of a pair of networks, as formulas of errors and outputs. Not here: loading replicas and writing
results (`three_regime.jobs`), regimes (`three_regime.analysis`).
"""
