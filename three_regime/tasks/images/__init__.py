"""Image classification: CIFAR-10, CIFAR-100 and SVHN.

Belongs here: everything specific to images: batches and augmentation, loss and error, BatchNorm re-estimation, and
faster computation of several networks (`stacked`) or a pruned one (`sparse`). Start at `task`.
"""
