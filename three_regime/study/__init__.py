"""A study: one temperature × density grid, its results on disk, and their state.

Belongs here: the grid (`grid`), products and their fingerprints (`products`, `fingerprints`), verdicts on result files
(`verdicts`: done, stale, missing, damaged, unknown), provenance. Not here: computing results (`three_regime.jobs`) or
tables from them (`three_regime.analysis`). Does not import torch.
"""
