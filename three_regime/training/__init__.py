"""The trainer: dense training and retraining, for images and translation.

Belongs here: the training loop (`loop`), learning rate, optimisers, saved states. Not here: differences between images
and text (`three_regime.tasks`), which networks a study trains (`three_regime.jobs`). Start at `trainer.train_pack`.
"""
