"""Plan and monitor runs: cost, progress, and reasons for recomputation.

Belongs here: `plan`, `status`, `explain` and `presets`; prices come from the study's setting (`pricing`). Not here:
anything that computes or writes results.
"""
