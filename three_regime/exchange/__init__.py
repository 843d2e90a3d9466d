"""In, out, and by hand: foreign checkpoints, exports and archives, single files without a study.

Belongs here: reading what others wrote (`checkpoint_files`, `importing`), sharing results (`export`, `redraw`,
`remeasure`), and pruning or comparing single checkpoints.
"""
