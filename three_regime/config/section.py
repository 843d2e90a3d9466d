"""Base class of the configuration's mappings, and shared value types."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from three_regime.errors import UserError
from three_regime.system import places

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Density = Annotated[float, Field(ge=1e-6, le=1)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(places.folder)]
Source = Annotated[str, Field(min_length=1), AfterValidator(places.source)]

_FLAGS = {"yes": True, "on": True, "no": False, "off": False}


class Section(BaseModel):
    """A mapping in the configuration: immutable; unknown keys, NaN and infinities are errors.

    Values are not converted between boolean, number and text, except ``yes``, ``no``, ``on`` and ``off``, which the
    YAML reader takes as text and which are booleans where a boolean is expected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, known: ValidationInfo) -> Any:
        if isinstance(value, str) and cls.model_fields[known.field_name].annotation is bool:
            return _FLAGS.get(value.lower(), value)
        return _tuples(value)


def _tuples(value: Any) -> Any:
    """Convert lists to tuples, recursively, because the models are immutable."""
    if isinstance(value, list):
        return tuple(_tuples(each) for each in value)
    return {key: _tuples(each) for key, each in value.items()} if isinstance(value, dict) else value


Filled = TypeVar("Filled", bound=Section)


def lowered(section: Filled, key: str, most: int | None) -> Filled:
    """Lower a default that exceeds `most` to it; an explicit value is kept, and may be refused later."""
    if most is None or key in section.model_fields_set or getattr(section, key) <= most:
        return section
    return section.model_copy(update={key: most})


@contextlib.contextmanager
def refused(place: str = "") -> Iterator[None]:
    """Turn `UserError` into ``ValueError`` for pydantic, prefixed by the key."""
    try:
        yield
    except UserError as error:
        raise ValueError(f"{place}{error}") from error
