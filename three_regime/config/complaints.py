"""Turn pydantic's validation errors into sentences about configuration keys."""

from __future__ import annotations

import re
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from three_regime.config.problem_words import Problem, words_of
from three_regime.config.whole import Config
from three_regime.names import nearest
from three_regime.system.yaml_files import SPACE_MISSING, Place, Written, misread, unspaced

_SYNONYMS = {
    "bs": "batch_size",
    "density": "densities",
    "lr": "learning_rate",
    "rho": "sam_rho",
    "seed": "dense_seeds",
    "seeds": "dense_seeds",
    "wd": "weight_decay",
}
"""Common names → the key they stand for, which need not be the nearest in spelling."""

_LABELS = {(): "the top level", ("studies",): "a study"}
"""Sections that messages do not name by their keys."""

_CLOSE = 0.7
"""Similarity from which a misspelt key is taken for one of its own section, whatever other sections have."""

_MOST_SECTIONS = 3
_NUMBERS = ("int_type", "float_type")
_MAPPINGS = ("dict_type", "model_type")


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
    subject = _subject(place, first)
    around = next((origins[subject[:end]] for end in range(len(subject), 0, -1) if subject[:end] in origins), None)
    if first["type"] == "extra_forbidden":
        message, shown = "unknown key" + _intended(str(place[-1]), place[:-1]), []
    else:
        text = written.text if written else None
        message = ", or ".join(dict.fromkeys(map(words_of, problems))) + _advice(problems, text)
        shown = _value(first, text)
    where = [*shown, *([str(around)] if around else [])]
    return f"{name}: {message}" + (f" ({'; '.join(where)})" if where else "")


def _subject(place: Place, problem: Problem) -> Place:
    """Where the key is that a message begins with; `place` if it begins with none.

    Checks of a whole section are reported at its place: "retrain.start: ..." at ``studies.<name>``.
    """
    begins = re.match(r"[\w-]+(\.[\w-]+)*", words_of(problem)) if problem["type"] == "value_error" else None
    below = tuple(begins[0].split(".")) if begins else ()
    return (*place, *below) if below and below[0] in _keys(_kind(place)) else place


def _advice(problems: Sequence[Problem], text: str | None) -> str:
    """What to write instead of the `text` of a value of another type."""
    types_of = {problem["type"] for problem in problems}
    if text and types_of & {*_NUMBERS} and (hint := misread(text)):
        return f": {hint}"
    if text and types_of & {*_MAPPINGS} and unspaced(text):
        return f": {SPACE_MISSING}"
    return ""


def _value(problem: Problem, text: str | None) -> list[str]:
    """The current value, if the message does not contain it."""
    value = problem["input"]
    if problem["type"] in ("value_error", "missing") or isinstance(value, Mapping | BaseModel):
        return []
    if value is None and not text:
        return ["it is empty"]
    if text is not None and not isinstance(value, str):
        return [f"it is {text}"]
    return [f"it is {list(value) if isinstance(value, tuple) else value!r}"]


def _intended(key: str, section: Place) -> str:
    """What an unknown key of a section probably stands for: another key of the section, or a key of other sections."""
    own, meant = _keys(_kind(section)), _SYNONYMS.get(key, key)
    if key.partition(":")[0] in own:
        return f": {SPACE_MISSING}"
    if meant in own:
        return f"; did you mean '{meant}'?"
    if close := nearest(key, own, _CLOSE):
        return close
    if sections := list(dict.fromkeys(label for label, keys in _sections() if meant in keys)):
        shown = ", ".join(sections[:_MOST_SECTIONS]) + (", …" if len(sections) > _MOST_SECTIONS else "")
        return (
            f"; '{key}' belongs to {shown}" if meant == key else f"; did you mean '{meant}', which belongs to {shown}?"
        )
    return nearest(key, own)


def _sections(kind: Any = Config, place: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """What messages call each section, and its keys."""
    yield _LABELS.get(place) or ".".join(place[1:] if place[0] == "studies" else place), _keys(kind)
    for key in _keys(kind):
        below = _below(kind, key)
        while below is not None and not _is_model(below):  # a mapping or list of sections
            below = _below(below, 0)
        if below is not None:
            yield from _sections(below, (*place, key))


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
