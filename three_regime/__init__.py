"""Reproduction of "A Three-regime Model of Network Pruning" (Zhou, Yang, Chang, Mahoney; ICML 2023).

Importing this package, or any module that the Snakefile needs, never imports torch.
"""

__version__ = "0.1.0"
