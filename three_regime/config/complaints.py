"""Turn pydantic's validation errors into sentences about configuration keys."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from three_regime.config.whole import Config
from three_regime.names import nearest
from three_regime.system.yaml_files import Place, Written, misread

Problem = Mapping[str, Any]

_WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of keys",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "missing": "this key is missing",
    "model_type": "must be a mapping of keys",
    "string_pattern_mismatch": "a name is made of lower-case letters and digits, with hyphens between",
    "string_too_short": "must not be empty",
    "string_type": "must be text; put it in quotes if it is",
    "too_long": "holds more values than {max_length}",
    "too_short": "holds fewer values than {min_length}",
    "tuple_type": "must be a list",
}
"""pydantic error type → message template, filled with the error's context."""

_NUMBERS = ("int_type", "float_type")


def sentences(problems: Iterable[Problem], origins: Mapping[Place, Written]) -> list[str]:
    """One sentence per key: its place, the error, and the nearest valid name.

    Parameters
    ----------
    problems
        Errors of pydantic for a `Config`.
    origins
        Where values were written.
    """
    grouped: dict[Place, list[Problem]] = {}
    for problem in problems:
        grouped.setdefault(_place(problem["loc"]), []).append(problem)
    for place in [place for place, found in grouped.items() if found[0]["type"] == "too_short"]:
        if any(other[: len(place)] == place and other != place for other in grouped):
            del grouped[place]  # the list is short only because its invalid values were not counted
    first: dict[Place, Place] = {}
    others: Counter[Place] = Counter()
    for place in [place for place in grouped if place and isinstance(place[-1], int)]:
        if place[:-1] in first:
            del grouped[place]  # report only the first error in a list
            others[first[place[:-1]]] += 1
        else:
            first[place[:-1]] = place
    return [
        _sentence(place, found, origins) + (f", and {others[place]} more in the list" if place in others else "")
        for place, found in grouped.items()
    ]


def _sentence(place: Place, problems: Sequence[Problem], origins: Mapping[Place, Written]) -> str:
    """Describe the error at `place`; several problems are alternative types, none of which matches."""
    first = problems[0]
    name = ".".join(["config", *(str(part) for part in place)])
    written = origins.get(place)
    around = next((origins[place[:end]] for end in range(len(place), 0, -1) if place[:end] in origins), None)
    if first["type"] == "extra_forbidden":
        message, shown = "unknown key" + nearest(str(place[-1]), _keys(_kind(place[:-1]))), []
    else:
        message = ", or ".join(dict.fromkeys(map(_words, problems)))
        text = written.text if written else None
        hint = misread(text) if text and any(problem["type"] in _NUMBERS for problem in problems) else ""
        message += f": {hint}" if hint else ""
        shown = _value(first, text)
    where = [*shown, *([str(around)] if around else [])]
    return f"{name}: {message}" + (f" ({'; '.join(where)})" if where else "")


def _value(problem: Problem, text: str | None) -> list[str]:
    """The current value, if the message does not contain it."""
    value = problem["input"]
    if problem["type"] in ("value_error", "missing") or isinstance(value, Mapping | BaseModel):
        return []
    if text is not None and not isinstance(value, str):
        return [f"it is {text}"]
    return [f"it is {list(value) if isinstance(value, tuple) else value!r}"]


def _words(problem: Problem) -> str:
    if problem["type"] == "literal_error":
        allowed = _alternatives(problem)
        return f"must be one of {', '.join(allowed)}{nearest(str(problem['input']), allowed)}"
    known = _WORDS.get(problem["type"])
    context = problem.get("ctx", {})
    return known.format(**context) if known else problem["msg"].removeprefix("Value error, ")


def _alternatives(problem: Problem) -> list[str]:
    return [word.strip().strip("'") for word in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]


def _place(loc: Sequence[int | str]) -> Place:
    """The part of `loc` with keys and positions; pydantic appends names of alternative types."""
    kind: Any = Config
    for end, part in enumerate(loc):
        if kind is None or (_is_model(kind) and part == "[key]"):
            return tuple(loc[:end])
        kind = _below(kind, part)
    return tuple(loc)


def _kind(place: Place) -> Any:
    """Type of the value at `place`; None if it is neither a mapping nor a list."""
    kind: Any = Config
    for part in place:
        kind = _below(kind, part)
    return kind


def _keys(kind: Any) -> list[str]:
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _below(kind: Any, part: int | str) -> Any:
    """Type of the value at key or position `part` in a value of type `kind`; None if that has no parts."""
    if _is_model(kind):
        return _container(kind.model_fields[part].annotation) if part in kind.model_fields else None
    arguments = get_args(kind)
    return _container(arguments[-1 if get_origin(kind) is dict else 0]) if arguments else None


def _container(annotation: Any) -> Any:
    """The mapping or list type in `annotation`, without null and constraints."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _container(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return next(filter(None, map(_container, get_args(annotation))), None)
    return annotation if _is_model(annotation) or origin in (dict, tuple) else None
