"""Text in tables and the report is escaped; system errors about a file are one sentence."""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import runpy
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import ROOT

from three_regime.errors import UserError
from three_regime.logs import reporting
from three_regime.system import markdown
from three_regime.workflow.html_report import SNAKEMAKE, arranged, without_early_ends

HOSTILE = [
    "x |\n| `forged`: all is well | **holds** |\n\n# Heading <b>",
    "a\r\nb\vc\fd\u2028e\u0085f",
    "a \\| b",
    "<script>alert(1)</script>",
    "<!-- and the rest",
    "![picture](https://tracker.example/x.png)",
    "[link](javascript:x)",
    "</td></tr>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_stays_a_cell(text):
    lines = markdown.table(("claim", "outcome"), [(text, "undecided"), ("plain < 3", 4)])
    assert len("\n".join(lines).splitlines()) == 4
    for line in lines:
        assert line.replace("\\|", "").count("|") == 3
        assert "](" not in line and not any(f"<{mark}" in line for mark in "abstd/!")
    assert lines[3] == "| plain < 3 | 4 |"


class _Scripts(HTMLParser):
    """Blocks of data by their name, and everything else that begins."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.blocks, self.others = None, {}, []

    def handle_starttag(self, tag, attrs):
        self.name = dict(attrs).get("id") if tag == "script" else None
        if tag != "script":
            self.others.append(tag)

    def handle_data(self, data):
        if self.name:
            self.blocks[self.name] = self.blocks.get(self.name, "") + data


@pytest.mark.parametrize("text", [*HOSTILE, "</script><p id=EVIL>", "</SCRIPT >", "<!--<script>", "\n    </script>"])
def test_no_text_ends_the_block_of_data_that_holds_it(text):
    data = {"statement": text, "other": ["</script>", 1]}
    page = '<script>code("</" + "script>")</script>\n'
    page += f'<script id="results">\n    var results = {json.dumps(data)};\n    </script>\n'
    parser = _Scripts()
    parser.feed(without_early_ends(page + '<script id="rules">\n    var rules = {};\n    </script>\n'))
    parser.close()
    assert not parser.others
    assert json.loads(parser.blocks["results"].strip().removeprefix("var results = ").removesuffix(";")) == data
    assert parser.blocks["rules"].strip() == "var rules = {};"


@pytest.mark.parametrize("name", ["EACCES", "EIO", "ESTALE", "EMFILE", "ENOLCK", "ELOOP", "EROFS"])
def test_what_the_system_says_of_a_file_is_one_sentence(name, capsys):
    number = getattr(errno, name)
    with pytest.raises(SystemExit) as ended, reporting():
        raise OSError(number, os.strerror(number), "results/x.json")
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"results/x.json: {os.strerror(number)}" in said and "Traceback" not in said


def test_faults_of_the_program_keep_their_traceback(capsys):
    for fault in (OSError("no number"), FileNotFoundError(errno.ENOENT, "gone", "x"), ValueError("x")):
        with pytest.raises(type(fault)), reporting():
            raise fault
        assert "Traceback" in capsys.readouterr().err
    logging.getLogger("three_regime").debug("done")


def test_the_report_is_in_order_and_opens_on_a_figure():
    def entry(mime: str, text: str = "") -> dict:
        return {
            "labels": {"figure": "name"},
            "mime_type": mime,
            "data_uri": f"data:{mime};base64,{base64.b64encode(text.encode()).decode()}",
        }

    paths = ["r/s/figures/cka.png", "r/s/claims.csv", "r/s/figures/seeds.png", "r/s/figures/phase_diagram.png"]
    results = {path: entry("image/png") for path in paths}
    results["r/s/claims.csv"] = entry("text/csv", "claim,outcome\n<b>bold</b>,holds\n")
    page = '<body><script id="results">\n    var results = ' + json.dumps(results) + ";\n    </script>\n"
    page += '<script id="categories">\n    var categories = ' + json.dumps({"s": {"Other": paths}}) + ";\n"
    page += "    </script>\n</body>"
    made = arranged(page)
    scripts = _Scripts()
    scripts.feed(made)
    ordered = json.loads(scripts.blocks["categories"].strip().removeprefix("var categories = ").removesuffix(";"))
    assert [path.split("/")[-1] for path in ordered["s"]["Other"]] == [
        "phase_diagram.png", "cka.png", "claims.csv", "seeds.png",
    ]  # fmt: skip
    shown = json.loads(scripts.blocks["results"].strip().removeprefix("var results = ").removesuffix(";"))
    assert shown["r/s/claims.csv"]["mime_type"] == "text/html"
    table = base64.b64decode(shown["r/s/claims.csv"]["data_uri"].partition(";base64,")[2]).decode()
    assert "<td>&lt;b&gt;bold&lt;/b&gt;</td>" in table and shown["r/s/figures/cka.png"]["labels"] == {
        "figure": "02 name"
    }
    assert 'path = "r/s/figures/phase_diagram.png"' in made.rpartition("</script>")[0].rpartition("<script>")[2]
    for other in (
        page.replace('id="categories"', 'id="other"'),
        page.replace("var categories = {", "var categories = <"),
    ):
        with pytest.raises(UserError, match=f"'categories'.*install Snakemake {SNAKEMAKE}"):
            arranged(other)


def test_the_known_report_is_the_pinned_snakemakes() -> None:
    assert f"snakemake=={SNAKEMAKE}." in (ROOT / "envs/requirements-lock.txt").read_text()


@pytest.mark.parametrize(("code", "said"), [(0, "install Snakemake"), (1, "snakemake --report failed: no such rule")])
def test_a_report_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, said: str
) -> None:
    def write(command: list[str], **_: object) -> SimpleNamespace:
        Path(command[command.index("--report") + 1]).write_text("<html>of another version</html>")
        return SimpleNamespace(returncode=code, stderr="no such rule")

    monkeypatch.setattr(subprocess, "run", write)
    settings = SimpleNamespace(config="config.yaml")
    given = {"config": {}, "log": [str(tmp_path / "logs/report.log")], "output": [str(tmp_path / "out/report.html")]}
    snakemake = SimpleNamespace(**given, input=settings, scriptdir=str(ROOT / "scripts"))
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "scripts/build_report.py"), {"snakemake": snakemake})
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown
    assert not list((tmp_path / "out").iterdir())
