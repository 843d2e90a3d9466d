"""Compare two nested mappings of settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any


class Absent(Enum):
    """`ABSENT` is the value of a key that one of the mappings lacks."""

    ABSENT = "nothing"

    def __str__(self) -> str:
        return self.value


ABSENT = Absent.ABSENT


def differing(first: Mapping[str, Any], second: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each key at which two nested mappings differ, and both values; an absent key equals None.

    Nested keys are joined by dots: ``training.learning_rate``. Keys of `second` come first, in their order.
    """
    for key in dict.fromkeys([*second, *first]):
        one, other = first.get(key), second.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from differing(one, other, f"{place}{key}.")
        elif one != other:
            yield f"{place}{key}", first.get(key, ABSENT), second.get(key, ABSENT)
