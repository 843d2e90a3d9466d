"""From official files to data that training maps: download, verify, clean, prepare.

Belongs here: verified downloads (`download`), and one array file a set of images or one folder a corpus (`prepare`).
Not here: facts about data sets and their readers (`three_regime.datasets`).
"""
