"""The base of every mapping of the configuration, and the kinds of values that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Density = Annotated[float, Field(gt=0, le=1)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(lambda text: str(Path(text)))]  # no trailing slash


class Section(BaseModel):
    """A mapping of the configuration: immutable; unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
