"""Before and during a run: what it costs, how far it is, and why something would be computed.

Belongs here: `plan`, `status`, `explain` and `presets`; their prices are those of a study's setting (`pricing`).
Nothing here computes or writes results.
"""
