"""Data sets: facts about each, and readers of their official files.

Belongs here: the registry (`registry.DATASETS`, `corpora`), the table of downloads (`sources`), one reader a data set.
Not here: downloading, cleaning and preparing, which are `three_regime.preparation`.
"""
