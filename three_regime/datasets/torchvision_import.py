"""Import torchvision with CPU-only torch.

The default torchvision wheel is linked to CUDA. With CPU-only torch its compiled operators do not load, and the import
fails at the first Python registration for one of them. Data sets and transforms do not need them, so it suffices to
declare the two missing schemas.
"""

from __future__ import annotations

import importlib
import logging
import sys
from types import ModuleType

import torch

log = logging.getLogger(__name__)

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Keeps the libraries alive, and with them their definitions.
_libraries: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, even if its compiled operators do not match the installed torch.

    Then detection operators such as ``torchvision.ops.nms`` exist but cannot be called; data sets and transforms work.

    Raises
    ------
    Exception
        Any error of the import except the missing ``nms`` operator.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
    log.debug("torchvision's compiled operators do not load; declaring nms and qnms and importing it again")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    return importlib.import_module("torchvision")
