"""Read YAML without the surprises of YAML 1.1 (`off`, `010`, `1:30`) and without duplicate keys.

The rules are those of YAML 1.2's core schema, slightly narrower: only ``true`` and ``false`` are booleans, numbers are
decimal (``010`` is ten, as in folder names), and everything else is text. ``yes``, ``0x10``, ``0o10``, ``1_000`` and
``1:30`` are text, which keys with numbers reject (`misread` says what to write instead). The file, line and original
text of each value are recorded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from three_regime.errors import UserError
from three_regime.names import nearest

Place = tuple[int | str, ...]

LARGEST = 1 << 20
"""Maximum file size in bytes; configurations have some ten thousand."""

MOST_VALUES = 100_000
"""Maximum number of values in a file, with aliases expanded."""

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_FLAGS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_OTHER_BASE = re.compile(r"[-+]?0[oxbOXB][0-9a-fA-F_]+")
_GROUPED = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_UNSPACED = re.compile(r"(- +)?[A-Za-z_][\w-]*:[^\s:/].*")
_MOST_DIGITS = 400
_CORE = "tag:yaml.org,2002:"
_PLAIN = "plain"


SPACE_MISSING = "a space is missing after the colon"


@dataclass(frozen=True)
class Written:
    """File and line of a value, and its original text (None for mappings and lists)."""

    file: Path
    line: int
    text: str | None = None

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True)
class Document:
    """The content of a file: a mapping with text keys, and the place of each value."""

    values: dict[str, Any]
    origins: dict[Place, Written]


def read_mapping(path: Path, what: str = "config file") -> Document:
    """Read a YAML (or JSON) file that holds one mapping; an empty file is an empty mapping.

    Anchors, aliases and merge keys (``<<``) work; tags other than YAML's own do not.

    Parameters
    ----------
    what
        Name of the kind of file in messages.

    Raises
    ------
    UserError
        When it is missing, not a file, not UTF-8, not YAML, not a mapping or too large, or a key is repeated or not
        text; the message names the file and line.
    """
    path = Path(path)
    text = _text(path, what)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{what} {path} is not valid YAML: {_fault(error, text)}") from error
    except RecursionError as error:
        raise UserError(f"{what} {path} is not valid YAML: it is nested too deeply") from error
    if node is None:
        return Document({}, {})
    if not isinstance(node, yaml.MappingNode):
        hint = f": {SPACE_MISSING}" if isinstance(node, yaml.ScalarNode) and unspaced(node.value) else ""
        raise UserError(f"{what} {path} must hold a mapping of keys{hint}")
    reader = _Reader(path, what)
    return Document(reader.value(node, ()), reader.origins)


def meant(text: str) -> Any:
    """Value of an unquoted word: None, a boolean, an integer, a float, or the text itself."""
    if text in _NULL:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _INTEGER.fullmatch(text) and len(text) < _MOST_DIGITS:
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def meant_throughout(value: Any) -> Any:
    """Apply `meant` to every text in nested mappings and lists."""
    if isinstance(value, Mapping):
        return {key: meant_throughout(below) for key, below in value.items()}
    if isinstance(value, list):
        return [meant_throughout(below) for below in value]
    return meant(value) if isinstance(value, str) else value


def misread(text: str) -> str:
    """Advice for numbers that YAML readers interpret differently; empty for other text."""
    if _OTHER_BASE.fullmatch(text):
        return "write it as a decimal number"
    if _SEXAGESIMAL.fullmatch(text):
        return "write one number, without the colon"
    if "_" in text and _GROUPED.fullmatch(text):
        return f"write {text.replace('_', '')}"
    return ""


def unspaced(text: str) -> bool:
    """Whether text begins with a key and a colon without the space that would make it one, as in ``model:vgg-19``."""
    return _UNSPACED.match(text.strip()) is not None


class _Loader(yaml.SafeLoader):
    """Loader that leaves unquoted words to `meant`. Pure Python, because libyaml crashes on deep nesting."""

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:
        return _PLAIN if kind is yaml.ScalarNode and implicit[0] else super().resolve(kind, value, (False, True))


class _Reader:
    """Convert YAML nodes to values, and record the place of each."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self.origins: dict[Place, Written] = {}
        self.open: list[yaml.Node] = []
        self.count = 0

    @contextlib.contextmanager
    def inside(self, node: yaml.Node) -> Iterator[None]:
        """Guard against recursive aliases and excessive expansion."""
        self.count += 1
        if self.count > MOST_VALUES:
            raise UserError(f"{self.what} {self.path} holds more than {MOST_VALUES:,} values, with aliases expanded")
        if any(node is each for each in self.open):
            raise self.refused(node, "an anchor contains itself")
        self.open.append(node)
        try:
            yield
        finally:
            self.open.pop()

    def value(self, node: yaml.Node, place: Place) -> Any:
        scalar = isinstance(node, yaml.ScalarNode)
        self.origins[place] = Written(self.path, node.start_mark.line + 1, node.value if scalar else None)
        with self.inside(node):
            if scalar:
                return self.scalar(node)
            if isinstance(node, yaml.SequenceNode):
                self.check_tag(node, "seq")
                return [self.value(below, (*place, number)) for number, below in enumerate(node.value)]
            self.check_tag(node, "map")
            return {key: self.value(below, (*place, key)) for key, below in self.pairs(node)}

    def scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag == _PLAIN:
            return meant(node.value)
        if node.tag in (_CORE + "str", "!"):
            return node.value
        self.check_tag(node, "null", "bool", "int", "float")
        return meant(node.value)

    def check_tag(self, node: yaml.Node, *allowed: str) -> None:
        if node.tag not in {_CORE + name for name in allowed}:
            raise self.refused(node, f"the tag {node.tag.replace(_CORE, '!!')} is not used here")

    def pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
        """Keys and values; those of merged mappings first, overridden by the mapping's own."""
        own: dict[str, yaml.Node] = {}
        lines: dict[str, int] = {}
        merged: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.refused(key, "a key must be one word")
            if key.value in lines:
                raise self.refused(key, f"the key {key.value!r} is given twice, first in line {lines[key.value]}")
            lines[key.value] = key.start_mark.line + 1
            if key.tag == _PLAIN and key.value == "<<":
                for each in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                    merged |= self.merged(each)
            else:
                own[key.value] = value
        yield from (merged | own).items()

    def merged(self, node: yaml.Node) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.refused(node, "`<<` takes mappings")
        with self.inside(node):
            return dict(self.pairs(node))

    def refused(self, node: yaml.Node, message: str) -> UserError:
        return UserError(f"{self.what} {self.path}, line {node.start_mark.line + 1}: {message}")


def beside(file: Path) -> str:
    """Suggest the nearest name and list all names of YAML files in the folder of a missing file; empty if none."""
    names = sorted(path.stem for path in file.parent.glob("*.yaml"))
    return f"{nearest(file.stem, names)}; {file.parent} has {', '.join(names)}" if names else ""


def _text(path: Path, what: str) -> str:
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise UserError(f"{what} {path} has {path.stat().st_size:,} bytes; none needs more than {LARGEST:,}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{what} {path} does not exist{beside(path)}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{what} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{what} {path} is not valid YAML: line {line} is not UTF-8 (byte {content[error.start]:#04x}); save the"
            " file as UTF-8"
        ) from error


def _fault(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    said = " ".join(str(getattr(error, "problem", None) or error).split())
    if "\\t" in said and "cannot start any token" in said:
        said = "a tab; indent with spaces"
    elif "undefined alias" in said:
        said += "; anchors hold within one file"
    elif mark and ("expected ':'" in said or "mapping values" in said) and (number := _line_unspaced(text, mark.line)):
        return f"line {number}: {SPACE_MISSING}"
    return f"line {mark.line + 1}: {said}" if mark else said


def _line_unspaced(text: str, last: int) -> int | None:
    """Number of the line, at most two above the line of index `last` where YAML fails, that lacks a space."""
    lines = text.splitlines()
    found = [index for index in range(max(0, last - 2), last + 1) if index < len(lines) and unspaced(lines[index])]
    return found[-1] + 1 if found else None
