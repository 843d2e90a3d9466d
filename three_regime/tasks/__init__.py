"""Tasks: the one seam between the paper's two settings, images and translation.

Belongs here: the interface that trainer, LMC and CKA know (`interface`), a folder for each setting with its torch-free
half in `setting` (`three_regime.settings.Setting`) and its price in `pricing`, what prices have in common (`pricing`,
`rates`), and how several networks advance together (`strategies`). Not here: the training loop
(`three_regime.training`).
"""
