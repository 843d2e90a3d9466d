"""The loss landscape between retrained networks: linear mode connectivity and linear CKA.

Belongs here: measures of a pair of networks, as formulas on errors and outputs. Not here: loading replicas and writing
results, which are `three_regime.jobs`; regimes, which are `three_regime.analysis`.
"""
