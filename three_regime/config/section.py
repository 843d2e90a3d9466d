"""The base of every mapping of the configuration, and the kinds of values that several of them share."""

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
Density = Annotated[float, Field(gt=0, le=1)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(places.folder)]
Source = Annotated[str, Field(min_length=1), AfterValidator(places.source)]

_FLAGS = {"yes": True, "on": True, "no": False, "off": False}


class Section(BaseModel):
    """A mapping of the configuration: immutable; unknown keys, NaN and infinities are errors.

    Values have the type that the key asks for: no boolean, number or text stands for another. Only ``yes``, ``no``,
    ``on`` and ``off``, which the reader of the files takes for text, are booleans where a boolean is asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, known: ValidationInfo) -> Any:
        if isinstance(value, str) and cls.model_fields[known.field_name].annotation is bool:
            return _FLAGS.get(value.lower(), value)
        return _tuples(value)


def _tuples(value: Any) -> Any:
    """Lists, as files hold them, as the tuples that immutable models hold."""
    if isinstance(value, list):
        return tuple(_tuples(each) for each in value)
    return {key: _tuples(each) for key, each in value.items()} if isinstance(value, dict) else value


Filled = TypeVar("Filled", bound=Section)


def lowered(section: Filled, key: str, most: int | None) -> Filled:
    """`section` with a default that exceeds `most` lowered to it; what was written stands, and may be refused."""
    if most is None or key in section.model_fields_set or getattr(section, key) <= most:
        return section
    return section.model_copy(update={key: most})


@contextlib.contextmanager
def refused(place: str = "") -> Iterator[None]:
    """Report what the library refuses as pydantic expects it, with the key that it concerns."""
    try:
        yield
    except UserError as error:
        raise ValueError(f"{place}{error}") from error
