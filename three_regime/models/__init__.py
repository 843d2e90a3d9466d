"""Networks: PreResNet, VGG, DenseNet and the translation Transformer, by name.

Belongs here: architectures, their initial weights and sizes, and matching foreign weights with them (`matching`). Not
here: losses, data and metrics, which are `three_regime.tasks`. Start at `families`, which imports no torch.
"""

from three_regime.models.families import build, parse, prunable, register

__all__ = ["build", "parse", "prunable", "register"]
