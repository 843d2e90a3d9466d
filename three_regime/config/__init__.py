"""The configuration: its keys, ranges and defaults, and the one loader of Snakefile and command line.

The models of this package define the schema: ``schemas/config.schema.json`` is generated from them (``python -m
three_regime schema``), and a test keeps the two equal. Every default follows the paper's protocol unless its
description says "this project's choice". Sources: R = public reproducibility record, A = authors' code at commit
b38c972.

Belongs here: the models of every part, and the registries of knobs, loads, measures and optimisers. Not here: what a
setting adds (`three_regime.tasks.<setting>.setting`) and the grid of results that a configuration describes
(`three_regime.study`). Other packages import the names below from here.
"""

from three_regime.config.claims import Claim, Side
from three_regime.config.dataset import DatasetChoice
from three_regime.config.loading import FROZEN, load, merge, read, resolve, schema_text, settle
from three_regime.config.measuring import Measurement
from three_regime.config.study import StudyConfig
from three_regime.config.training import Retraining, Training
from three_regime.config.whole import Config

__all__ = [
    "FROZEN",
    "Claim",
    "Config",
    "DatasetChoice",
    "Measurement",
    "Retraining",
    "Side",
    "StudyConfig",
    "Training",
    "load",
    "merge",
    "read",
    "resolve",
    "schema_text",
    "settle",
]
