"""Foreign checkpoints, exports and archives, and commands on single files without a study.

Belongs here: reading foreign files (`checkpoint_files`, `importing`, `records`), sharing results (`export`, `redraw`,
`remeasure`), and pruning or comparing single checkpoints. Not here: reading a study's own results
(`three_regime.study`).
"""
