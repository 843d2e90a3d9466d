"""Prepare data for training: download, verify, clean, convert.

Belongs here: verified downloads (`download`), and one array file per image data set or one folder per corpus
(`prepare`). Not here: properties of data sets and their readers (`three_regime.datasets`).
"""
