"""Exports with changed files or invalid tables: the file is named, and nothing partial is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from checkout import Checkout
from click.testing import CliRunner
from finished import inside, tiny

from three_regime import figures
from three_regime.analysis import scorecard
from three_regime.cli import main
from three_regime.errors import UserError
from three_regime.exchange.export import export
from three_regime.exchange.redraw import redraw
from three_regime.system import manifest


@pytest.fixture(scope="module")
def packed(finished_tiny: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with inside(finished_tiny):
        return export(tiny(), tmp_path_factory.mktemp("packed") / "export")


@pytest.fixture
def own(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(figures, "draw_all", lambda *_: None)
    shutil.copytree(packed, tmp_path / "own")
    return tmp_path / "own"


def test_an_export_is_what_its_manifest_says(own: Path) -> None:
    manifest.check(own)
    assert redraw(own, own.parent / "again").is_dir()
    assert len(scorecard.of_export(own).cells)


def test_an_altered_table_is_named(own: Path) -> None:
    path = own / "tiny/cells.csv"
    cells = pd.read_csv(path)
    cells.assign(test_error=0.01).to_csv(path, index=False)
    for use in (
        lambda: redraw(own, own.parent / "again"),
        lambda: scorecard.of_export(own),
        lambda: scorecard.of_export(own / "tiny"),
    ):
        with pytest.raises(UserError, match=r"tiny/cells\.csv: altered since the export was packed"):
            use()
    assert not (own.parent / "again").exists()
    (own / manifest.MANIFEST).unlink()
    assert len(scorecard.of_export(own).cells)


def test_a_text_that_was_saved_again_is_the_same(own: Path) -> None:
    for path in (*own.rglob("*.csv"), *own.rglob("*.json")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert manifest.altered(own) == []
    assert redraw(own, own.parent / "again").is_dir()


@pytest.mark.parametrize("content", ["[]", "{", '{"files": 3}', '{"files": {"../x": {}}}'])
def test_a_manifest_that_is_none_is_named(own: Path, content: str) -> None:
    (own / manifest.MANIFEST).write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json") as caught:
        scorecard.of_export(own)
    assert "delete it" not in str(caught.value)


SPOIL: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_text(""),
    "other columns": lambda path: path.write_text("a,b\n1,2\n"),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "semicolons": lambda path: path.write_text(path.read_text().replace(",", ";")),
}


@pytest.mark.parametrize("name", ["cells", "pairs", "replicas"])
def test_a_bad_table_is_named_and_leaves_nothing(own: Path, name: str) -> None:
    (own / manifest.MANIFEST).unlink()
    path = own / f"tiny/{name}.csv"
    sound = path.read_bytes()
    for spoil in SPOIL.values():
        spoil(path)
        with pytest.raises(UserError, match=str(path.parent)):
            redraw(own, own.parent / "again")
        assert sorted(each.name for each in own.parent.iterdir()) == ["own"]
        path.write_bytes(sound)
    assert redraw(own, own.parent / "again").is_dir()


def test_cells_of_another_study_are_named(own: Path) -> None:
    (own / manifest.MANIFEST).unlink()
    path = own / "tiny/cells.csv"
    path.write_text(path.read_text().replace("\ntiny,", "\nother,"))
    with pytest.raises(UserError, match=r"cells\.csv is a table of study 'other', but config\.yaml runs tiny"):
        redraw(own, own.parent / "again")
    assert not (own.parent / "again").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("test_error", "-5"),
        ("test_error", "17"),
        ("test_error", "inf"),
        ("lmc", "1e308"),
        ("lmc_nll", "-inf"),
        ("cka_softmax", "-3"),
        ("cka_logits", "1.5"),
        ("temperature", "-inf"),
        ("temperature", "-1"),
        ("dense_seed", "2.5"),
        ("dense_seed", "inf"),
        ("density", "-0.1"),
    ],
)
def test_a_number_that_cannot_be_is_named(own: Path, column: str, value: str) -> None:
    path = own / "tiny/cells.csv"
    cells = pd.read_csv(path, dtype=object)
    cells.loc[1, column] = value
    cells.to_csv(path, index=False)
    ended = CliRunner().invoke(main, ["scorecard", str(own)])
    assert ended.exit_code == 2
    with pytest.raises(UserError, match=f"column '{column}' holds .* in row 3"):
        scorecard.of_export(own)
