"""Read measured rates.

``benchmarks/`` measures them and writes ``benchmarks/rates/<name>.json``, one file per machine and device::

    {"device": "cuda", "measured": "2026-11-22", "machine": {"name": "NVIDIA H200", ...}, "threads": 1,
     "models": {"preresnet-20": {"train_images_per_s": ..., "evaluate_images_per_s": ...,
                                 "reestimate_images_per_s": ..., "parameters": 272282, "image_size": 32}},
     "text_models": {"transformer-6x512x8": {"train_tokens_per_s": ..., "evaluate_tokens_per_s": ...,
                                             "decode_sentences_per_s": ..., "subwords": 32000, "threads": 1}}}

Optional: `together_images_per_s` (training, all members of a pack in lock-step), `relative_times` (density → time of
training and of a forward pass relative to the dense network), `image_size` (default 32), `text_models`, and `threads`
(default: those above) and `measured` of a text model. Unknown keys are refused. Tokens are target tokens; a sentence,
of 28 tokens on average, is decoded once with the measured beam and once greedily.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from three_regime.errors import UserError
from three_regime.system.files import read_json
from three_regime.system.places import CHECKOUT

RATES = CHECKOUT / "benchmarks" / "rates"


class ModelRates(BaseModel):
    """Measured rates of one network in images per second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_images_per_s: float = Field(gt=0)
    evaluate_images_per_s: float = Field(gt=0)
    reestimate_images_per_s: float = Field(gt=0)
    together_images_per_s: float | None = Field(None, gt=0)
    parameters: int = Field(gt=0)
    image_size: int = Field(32, gt=0)
    relative_times: dict[float, tuple[float, float]] = {}


class TextRates(BaseModel):
    """Measured rates of one Transformer in tokens and sentences per second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_tokens_per_s: float = Field(gt=0)
    evaluate_tokens_per_s: float = Field(gt=0)
    decode_sentences_per_s: float = Field(gt=0)
    subwords: int = Field(gt=0)
    threads: int | None = Field(None, gt=0)
    measured: date | None = None


class Rates(BaseModel):
    """One file of measured rates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    machine: dict[str, Any] = {}
    threads: int = 1
    measured: date | None = None
    commit: str | None = None
    models: dict[str, ModelRates] = Field(min_length=1)
    text_models: dict[str, TextRates] = {}

    @property
    def on_gpu(self) -> bool:
        return not self.device.lower().startswith("cpu")

    @property
    def title(self) -> str:
        """Device, machine and date as text."""
        name = self.machine.get("name") or self.machine.get("gpu") or self.machine.get("cpu") or ""
        when = f", measured {self.measured}" if self.measured else ""
        if not self.on_gpu and self.machine.get("vectors"):
            name = f"{name}, {self.machine['vectors']}"
        threads = "" if self.on_gpu else f", {self.threads} thread{'s'[: self.threads > 1]}"
        return f"{self.device}{f' ({name})' if name else ''}{threads}{when}"


def read_rates(folder: Path, device: str = "auto") -> Rates | None:
    """Read the rates for a device, the latest if there are several; None when nothing has been measured.

    Parameters
    ----------
    device
        ``auto`` (a GPU if one was measured, else the CPU), ``cuda``, ``cpu``, or part of a file or device name.

    Raises
    ------
    UserError
        When a file is not in the format above, or none matches `device`.
    """
    found: dict[str, Rates] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = Rates.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    ordered = sorted(found.items(), key=lambda item: (item[1].on_gpu, item[1].measured or date.min))
    wanted = {"auto": lambda _, rates: True, "cuda": lambda _, rates: rates.on_gpu,
              "cpu": lambda _, rates: not rates.on_gpu}.get(
        device, lambda name, rates: device.lower() in f"{name} {rates.title}".lower()
    )  # fmt: skip
    chosen = [rates for name, rates in ordered if wanted(name, rates)]
    if not chosen and device != "auto":
        raise UserError(f"no rates of device '{device}' in {folder}; there are {', '.join(found) or 'none'}")
    return chosen[-1] if chosen else None
