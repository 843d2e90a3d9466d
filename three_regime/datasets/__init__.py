"""Data sets: properties of each, and readers of their official files.

Belongs here: the registry (`registry.DATASETS`, `corpora`), the table of downloads (`sources`), one reader per data
set. Not here: downloading, cleaning and preparing (`three_regime.preparation`).
"""
