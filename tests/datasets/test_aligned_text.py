"""Raw parallel text: aligned files, WMT's SGML, cleaning, and error messages."""

from __future__ import annotations

import html
import unicodedata
from pathlib import Path

import pytest
from sacrebleu.dataset.base import Dataset
from written_corpus import REAL, real, sgml

from three_regime.datasets.aligned_text import count_lines, read_aligned, read_lines
from three_regime.datasets.sgml import read_aligned_segments, read_segments
from three_regime.errors import UserError
from three_regime.preparation.cleaning import Limits, fault, normalised

LIMITS = Limits(max_tokens=10, ratio=2)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_end_with_line_feeds_alone(tmp_path: Path) -> None:
    german = write(tmp_path, "a.de", "eins\u2028zwei\x85\x0c\ndrei\r\nvier")
    english = write(tmp_path, "a.en", "one two\n\nfour\n")
    pairs = list(read_aligned(german, english, 3))
    assert pairs == [("eins\u2028zwei\x85\x0c", "one two"), ("drei\r", ""), ("vier", "four")]


@pytest.mark.parametrize(("content", "lines"), [("", 0), ("a", 1), ("a\n", 1), ("\n", 1), ("a\n\n", 2), ("a\nb", 2)])
def test_lines_are_counted(tmp_path: Path, content: str, lines: int) -> None:
    assert count_lines(write(tmp_path, "text", content)) == lines


def test_misaligned_files_are_both_named_with_their_counts(tmp_path: Path) -> None:
    german, english = write(tmp_path, "a.de", "x\n" * 1200), write(tmp_path, "a.en", "x\n" * 1199)
    with pytest.raises(UserError, match=r"a\.de and .*a\.en are not aligned: they have 1,200 and 1,199 lines"):
        next(read_aligned(german, english))
    with pytest.raises(UserError, match=r"a\.de and .* have 1,200 lines instead of 1,300"):
        next(read_aligned(german, german, 1300))


def test_invalid_utf8_is_named_with_file_and_line(tmp_path: Path) -> None:
    german = write(tmp_path, "a.de", b"gut\nM\xfcller\n")
    pairs = read_aligned(german, write(tmp_path, "a.en", "good\nmiller\n"))
    assert next(pairs) == ("gut", "good")
    with pytest.raises(UserError, match=r"a\.de, line 2: not valid UTF-8 \(byte 0xfc at column 2\)"):
        next(pairs)


def test_a_byte_order_mark_is_dropped_at_the_start_alone(tmp_path: Path) -> None:
    content = "\ufeffone\n\ufefftwo\n"
    assert list(read_lines(write(tmp_path, "x.de", content))) == ["one", "\ufefftwo"]
    assert list(read_lines(write(tmp_path, "y.de", "\ufeff"))) in ([], [""])
    pairs = list(read_aligned(write(tmp_path, "a.de", "\ufeffa\nb\n"), write(tmp_path, "a.en", "a\nb\n")))
    assert pairs == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_are_named_with_file_and_line(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UserError, match=r"x\.de, line 1: .*convert the file to UTF-8"):
        list(read_lines(write(tmp_path, "x.de", "Größe\nzwei\n".encode(encoding))))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path} cannot be read"):
        list(read_lines(tmp_path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.en is missing"):
        next(read_aligned(write(tmp_path, "b.de", "x\n"), tmp_path / "b.en"))


def test_normalisation_composes_and_changes_nothing_that_is_seen() -> None:
    assert normalised("Scho\u0308n\u00a0 ist\tes\u2028\x00hier \n") == "Schön ist es hier"
    assert normalised("½ ﬁ … „x“ ²") == "½ ﬁ … „x“ ²"
    text = "Ä" + unicodedata.normalize("NFD", "ÄÖÜéß")
    assert normalised(normalised(text)) == normalised(text) == "ÄÄÖÜéß"


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [(0, 3, "empty"), (3, 0, "empty"), (0, 0, "empty"), (11, 9, "too long"), (9, 11, "too long"), (10, 10, None),
     (4, 2, None), (5, 2, "ratio"), (2, 5, "ratio"), (1, 2, None), (1, 1, None)],
)  # fmt: skip
def test_a_pair_is_dropped_for_a_reason(source: int, target: int, reason: str | None) -> None:
    assert fault(source, target, LIMITS) == reason


SGML = """<!DOCTYPE srcset SYSTEM "ftp://jaguar.ncsl.nist.gov/mt/resources/mteval-xml-v1.3.dtd">
<SRCSET setid="x" srclang="any">
<DOC docid="one" genre="news"><hl>
<seg id="1">Fischer &amp; S&ouml;hne: 3 &lt; 4 &#8211; &quot;R&D&quot; &amp;amp;</seg>
</hl>
<p><seg id="2"> a < b and <b>bold</b>,
two lines </seg></p>
</DOC>
<doc docid="two"><p><seg id="1"></seg></p></doc>
</SRCSET>
"""


def test_sgml_entities_tags_and_lines(tmp_path: Path) -> None:
    segments = read_segments(write(tmp_path, "x.sgm", SGML))
    assert [segment[:2] for segment in segments] == [("one", "1"), ("one", "2"), ("two", "1")]
    assert [segment.text for segment in segments] == [
        'Fischer & Söhne: 3 < 4 – "R&D" &amp;',
        "a < b and <b>bold</b>, two lines",
        "",
    ]


@pytest.mark.parametrize(
    "text", ["foo bar", "foo\nbar", "\nfoo\r\n  bar\n", "foo&#10;bar", "foo \t&nbsp;bar", "foo&#x2028;bar"]
)
def test_a_segment_is_one_line_as_in_sacrebleus_references(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "x.sgm", f'<refset><doc docid="one"><seg id="1">{text}</seg></doc></refset>')
    (segment,) = read_segments(path)
    assert segment.text == "foo bar" == Dataset._clean(html.unescape(text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</hl>", "</hl></DOC>", r"line 6: a segment is outside a document"),
        ('<seg id="2">', "<seg>", r"line 6: a segment has no id"),
        ('<seg id="2">', '<seg id="1">', r"line 6: document one has two segments 1"),
        ("&amp;amp;</seg>", "&amp;amp;", r"segment 1 of document one is not closed"),
    ],
)
def test_faults_of_sgml_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.sgm.*{message}"):
        read_segments(write(tmp_path, "x.sgm", SGML.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<![CDATA[Less < more]]>", "Less < more"),
        ("<![CDATA[R&amp;D <b> </seg>]]>", "R&amp;D <b> </seg>"),
        ("a <![CDATA[b\nc]]> d<![CDATA[]]><![CDATA[]]]>", "a b c d]"),
        ("a <?b c> d", "a <?b c> d"),
        ("a &lt;![CDATA[b]] c", "a <![CDATA[b]] c"),
        ("a<br/>b<br />c", "a<br/>b<br />c"),
        ("a <script> b &amp; <style>c", "a <script> b & <style>c"),
        ("<title>a &amp; b <textarea>c", "<title>a & b <textarea>c"),
    ],
)
def test_sections_of_plain_text_are_text(tmp_path: Path, written: str, text: str) -> None:
    whole = f'<refset><doc docid="one"><seg id="1">{written}</seg>\n<seg id="2">x</seg></doc></refset>'
    assert [segment.text for segment in read_segments(write(tmp_path, "x.sgm", whole))] == [text, "x"]


@pytest.mark.parametrize(
    "text", ["x=1&section=2", "a <!-- hidden --> b", "if a<b then", "5 </ 6 ok", "</3 sad", "<3 you & me", "R&D"]
)
def test_text_that_looks_like_markup_stays(tmp_path: Path, text: str) -> None:
    whole = f'<refset><doc docid="one"><seg id="1">{text}</seg><seg id="2">x</seg></doc></refset>'
    assert [segment.text for segment in read_segments(write(tmp_path, "x.sgm", whole))] == [text, "x"]


def test_a_section_that_is_not_closed_is_named(tmp_path: Path) -> None:
    whole = '<refset><doc docid="one">\n<seg id="1"><![CDATA[a</seg></doc></refset>'
    with pytest.raises(UserError, match=r"x\.sgm, line 2: a CDATA section is not closed"):
        read_segments(write(tmp_path, "x.sgm", whole))


def test_sgml_with_bad_utf8_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.sgm, line 4: not valid UTF-8"):
        read_segments(write(tmp_path, "x.sgm", SGML.encode().replace(b"Fischer", b"Fi\xe9cher")))


def test_both_sides_must_hold_the_same_segments(tmp_path: Path) -> None:
    german = write(tmp_path, "a.de.sgm", sgml("srcset", ["eins", "zwei", "drei"], size=2))
    for other, message in (
        (sgml("refset", ["one", "two"]), "they hold 3 and 2 segments"),
        (sgml("refset", ["one", "two", "three"], size=3), r"segment 1 of document news\.2 is paired with segment 3 of"),
    ):
        english = write(tmp_path, "a.en.sgm", other)
        with pytest.raises(UserError, match=rf"a\.de\.sgm and .*a\.en\.sgm are not aligned: {message}"):
            next(read_aligned_segments(german, english))
    english = write(tmp_path, "a.en.sgm", sgml("refset", ["one", "two", "three"], size=2))
    assert list(read_aligned_segments(german, english)) == [("eins", "one"), ("zwei", "two"), ("drei", "three")]


def test_newstest2014_survives_its_sgml(tmp_path: Path) -> None:
    pairs = real("newstest2014")
    german, english = (
        write(tmp_path, f"{side}.sgm", sgml(f"{side}set", [pair[k] for pair in pairs]))
        for k, side in enumerate(("src", "ref"))
    )
    found = list(read_aligned_segments(german, english))
    assert len(found) == 3003
    assert found == [(german.strip(), english.strip()) for german, english in pairs]
    lines = list(read_aligned(REAL / "newstest2014.de", REAL / "newstest2014.en", 3003))
    assert lines == pairs
