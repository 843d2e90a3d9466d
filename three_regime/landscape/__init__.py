"""The loss landscape of retrained networks: linear mode connectivity, linear CKA, and measures beside them.

Belongs here: measures of a network or a pair, as formulas on errors, outputs and weights. Not here: which there are and
what a study asks for, which is `three_regime.config.measures`; loading replicas and writing results, which are
`three_regime.jobs`; regimes, which are `three_regime.analysis`.
"""
