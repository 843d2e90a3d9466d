"""Tasks: everything that differs between the paper's two settings, images and translation.

Belongs here: the interface used by trainer, LMC and CKA (`interface`); a folder for each setting with its torch-free
half in `setting` (`three_regime.settings.Setting`) and its pricer in `pricing`; shared pricing code (`pricing`,
`rates`); and how several networks are computed together (`strategies`). Not here: the training loop
(`three_regime.training`).
"""
