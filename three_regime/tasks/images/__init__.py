"""Image classification: CIFAR-10, CIFAR-100 and SVHN.

Belongs here: what only images need: batches and augmentation, loss and error, BatchNorm re-estimation, and the faster
ways of computing several networks (`stacked`) or a pruned one (`sparse`). Start at `task`.
"""
