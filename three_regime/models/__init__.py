"""Networks: PreResNet, VGG, DenseNet and the translation Transformer, by name.

Belongs here: architectures, their initial weights and sizes, and checking foreign weights against them (`matching`).
Not here: losses, data and metrics (`three_regime.tasks`). Start at `families`, which does not import torch.
"""

from three_regime.models.families import build, parse, prunable, register

__all__ = ["build", "parse", "prunable", "register"]
