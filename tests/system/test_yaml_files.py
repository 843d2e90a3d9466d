"""YAML files are read as intended, or refused with file and line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from three_regime.errors import UserError
from three_regime.system.yaml_files import meant, misread, read_mapping


def read(tmp_path: Path, content: str | bytes) -> dict[str, Any]:
    (tmp_path / "c.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_mapping(tmp_path / "c.yaml").values


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((word, word) for word in ("on", "off", "yes", "no", "Yes", "OFF", "y", "n")),
        *((word, word) for word in ("0o10", "0x1F", "0b1", "1_000", "1:30", "1.2.3", "1.2e3.4")),
        *((word, word) for word in ("2020-01-01", "2020-01-01T10:00:00Z", "=", "1e", "e3", "+", ".")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("~", "null", "Null", "NULL", "")),
        ("0", 0), ("-3", -3), ("+12", 12), ("010", 10), ("-007", -7), ("008", 8), ("00.50", 0.5),
        ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("1.5E-3", 0.0015), ("-.inf", -math.inf),
    ],
)  # fmt: skip
def test_a_word_is_what_a_person_means(tmp_path, written, value):
    found = read(tmp_path, f"a: {written}\n")["a"]
    assert (found, type(found)) == (value, type(value))
    assert meant(written) == value


def test_words_in_quotes_and_blocks_are_text(tmp_path):
    found = read(tmp_path, "a: '5'\nb: \"true\"\nc: |\n  5\nd: !!str 5\n")
    assert found == {"a": "5", "b": "true", "c": "5\n", "d": "5"}


def test_keys_are_text(tmp_path):
    assert read(tmp_path, "on: 1\n1: 2\nnull: 3\n010: 4\n") == {"on": 1, "1": 2, "null": 3, "010": 4}


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("0o17", "write it as a decimal number"),
        ("0x1F", "write it as a decimal number"),
        ("1_000", "write 1000"),
        ("1:30", "write one number, without the colon"),
        ("01:30:00", "write one number, without the colon"),
        *((word, "") for word in ("yes", "1.2.3", "5", "010", "0.5", "007x", "a_b", "10:99")),
    ],
)
def test_what_to_write_for_an_odd_number(written, advice):
    assert misread(written) == advice


def test_json_is_read_too(tmp_path):
    assert read(tmp_path, '{"a": [1, 2.5, "x", true, null]}') == {"a": [1, 2.5, "x", True, None]}


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


def test_anchors_and_merge_keys_work(tmp_path):
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [*a, {x: 9, z: 4}]}\nd: *a\n'<<': plain\n"
    found = read(tmp_path, text)
    assert found["b"] == {"x": 3, "y": 2}
    assert found["c"] == {"x": 1, "y": 2, "z": 4}
    assert (found["d"], found["<<"]) == ({"x": 1, "y": 2}, "plain")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice, first in line 1"),
        ("a:\n  b:\n    c: 1\n    c: 1\n", "line 4: the key 'c' is given twice, first in line 3"),
        ("a:\n- x: 1\n  x: 2\n", "line 3: the key 'x' is given twice"),
        ("on: 1\n'on': 2\n", "line 2: the key 'on' is given twice"),
        ("a: {<<: {x: 1}, <<: {y: 1}}\n", "the key '<<' is given twice"),
        ("? [1]\n: 2\n", "line 1: a key must be one word"),
        ("<<: 1\n", "`<<` takes mappings"),
        ("a: &a [*a]\n", "an anchor contains itself"),
        ("a: &a {<<: *a}\n", "an anchor contains itself"),
        ("a:\n\tb: 1\n", "line 2: a tab; indent with spaces"),
        ("a: *protocol\n", "line 1: found undefined alias 'protocol'; anchors hold within one file"),
        ("a:\n  b: c\n  model:vgg\n  knob: d\n", "line 3: a space is missing after the colon"),
        ("a:\n  model:vgg\n  knob: d\n", "line 2: a space is missing after the colon"),
        ("a:\n  b: c\n  model:vgg\n", "line 3: a space is missing after the colon"),
        ("run:[a]\n", "must hold a mapping of keys: a space is missing after the colon"),
        ("a: http://b\nc\nd: 1\n", "line 3: could not find expected ':'"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: !!python/object/apply:os.system [ls]\n", "the tag !!python/object/apply:os.system is not used here"),
        ("a: !include other.yaml\n", "the tag !include is not used here"),
        ("a: !!set {b}\n", "the tag !!set is not used here"),
        ("- a\n", "must hold a mapping"),
        ("[" * 50_000, "nested too deeply"),
        ("a: x\x00", "is not valid YAML"),
        ("x: 1\ny: ä".encode("latin-1"), "line 2 is not UTF-8 .byte 0xe4.; save the file as UTF-8"),
        ("x: 1".encode("utf-16"), "is not UTF-8"),
        (b"# " + b"x" * (1 << 20), "1,048,578 bytes"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_line(tmp_path, content, said):
    with pytest.raises(UserError, match=rf"config file .*c\.yaml.*{said}") as refused:
        read(tmp_path, content)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_of_aliases_are_bounded(tmp_path, merge):
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 12):
        aliases = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{aliases}]}}" if merge else f"[{aliases}]"))
    with pytest.raises(UserError, match="more than 100,000 values"):
        read(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("place", ["absent.yaml", ".", "nul\0.yaml"])
def test_what_is_no_file_is_named(tmp_path, place):
    with pytest.raises(UserError, match="config file .* (does not exist|cannot be read)"):
        read_mapping(tmp_path / place)


def test_each_value_knows_where_it_was_written(tmp_path):
    (tmp_path / "c.yaml").write_text("a:\n  b: [1,\n   010]\n")
    origins = read_mapping(tmp_path / "c.yaml").origins
    assert str(origins["a", "b", 1]) == f"{tmp_path / 'c.yaml'}, line 3"
    assert (origins["a", "b", 1].text, origins[("a",)].text, origins[("a",)].line) == ("010", None, 2)
