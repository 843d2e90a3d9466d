"""What a validation error of pydantic says, in this project's words; `three_regime.config.complaints` says where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from three_regime.names import nearest

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
    "too_long": "must have at most {max_length} values",
    "too_short": "must have at least {min_length} values",
    "tuple_type": "must be a list",
}
"""pydantic error type → message template, filled with the error's context."""

_SYNONYMS = {"gpu": "cuda"}
"""Common names → the allowed value they stand for, which need not be the nearest in spelling."""

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")


def words_of(problem: Problem) -> str:
    """What an error (an entry of ``ValidationError.errors()``) says about a value; neither key nor value is named."""
    if problem["type"] == "literal_error":
        return _of_alternatives(problem)
    known = _WORDS.get(problem["type"])
    if known is None:
        return problem["msg"].removeprefix("Value error, ")
    said = known.format(**problem.get("ctx", {})).replace(" 1 values", " 1 value")
    return said + _as_fraction(problem)


def _of_alternatives(problem: Problem) -> str:
    allowed = [word.strip().strip("'") for word in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]
    given = str(problem["input"])
    meant = _SYNONYMS.get(given.lower())
    hint = f"; did you mean '{meant}'?" if meant in allowed else nearest(given, allowed)
    return f"must be one of {', '.join(allowed)}{hint}"


def _as_fraction(problem: Problem) -> str:
    """Advice where a fraction is given in percent: above its limit of at most 1, or with a percent sign."""
    given, limits = problem["input"], problem.get("ctx", {})
    limit = limits.get("lt", limits.get("le"))
    percent = None
    if problem["type"] == "float_type" and isinstance(given, str) and (signed := _PERCENT.fullmatch(given)):
        percent = float(signed[1])
    # The limits of whole numbers, such as the number of GPUs, are whole numbers themselves.
    elif (
        problem["type"] in ("less_than", "less_than_equal")
        and isinstance(limit, float)
        and 0 < limit <= 1 < given <= 100
    ):
        percent = given
    return "" if percent is None else f"; write a fraction: {percent / 100:g} for {percent:g} %"
