"""Choose the device of a job."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator

from three_regime.errors import UserError

log = logging.getLogger(__name__)


@functools.cache
def choose(wanted: str, *, require_gpu: bool = False) -> str:
    """Return ``cuda`` or ``cpu`` for the config value `wanted`, and log it.

    Raises
    ------
    UserError
        When `wanted` is ``cuda`` or a GPU is required, and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError("config.device is cuda, but torch sees no GPU on this machine; use auto or cpu")
    device = "cuda" if available and wanted != "cpu" else "cpu"
    if require_gpu and not available:
        raise UserError("config.require_gpu is true, but torch sees no GPU here; set it to false to use the CPU")
    name = torch.cuda.get_device_name(0) if device == "cuda" else f"CPU (torch {torch.__version__})"
    log.info("this job runs on the %s%s", name, "" if available or wanted == "cpu" else ": torch sees no GPU")
    return device


def check_precision(precision: str, device: str) -> None:
    """Raise if the GPU could only emulate `precision`, many times slower.

    Raises
    ------
    UserError
        When `precision` is ``bf16`` and the GPU does not support it.
    """
    import torch

    if precision == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"precision is bf16, which the GPU {torch.cuda.get_device_name()} does not support (NVIDIA GPUs do from the"
            " A100 on); set the study's dense.precision and retrain.precision to fp32, or use another GPU"
        )


@contextlib.contextmanager
def convolution_precision(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 in cuDNN convolutions, forbid it in matrix products; restore both on exit."""
    import torch

    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
