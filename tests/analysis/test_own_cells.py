"""Cells measured with other code: the template, its units, and scoring a filled-in one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from click.testing import CliRunner

from three_regime.analysis import figure2, own_cells, references, scorecard
from three_regime.cli import main
from three_regime.errors import UserError

ARCHIVE = ROOT / "reference" / "obtained" / "cifar10-cpu"


@pytest.fixture(scope="module")
def reference() -> references.Reference:
    return references.published()


def filled(reference: references.Reference, unit: str = "fraction") -> pd.DataFrame:
    """The template filled in by a lab that obtained the published values, in the given unit."""
    table = own_cells.template(reference)
    table[["temperature", "density"]] = table[["temperature", "density"]].astype(float)
    known = figure2.wide(reference.cells)
    table = table.drop(columns=["test_error", "lmc", "cka_softmax"]).merge(known, on=["temperature", "density"])
    table = table.rename(columns={"cka": "cka_softmax"}).drop(columns="normalised_test_error")
    inside = [name for name in own_cells.IN_UNITS if name in table]
    return table.assign(unit=unit, **{name: table[name] / own_cells.UNITS[unit] for name in inside})


def written(table: pd.DataFrame, folder: Path) -> Path:
    path = folder / "mine.csv"
    table.to_csv(path, index=False)
    return path


def command(*arguments: object) -> str:
    ended = CliRunner().invoke(main, ["scorecard", *map(str, arguments)])
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_a_filled_in_template_is_scored(tmp_path: Path, reference) -> None:
    path = tmp_path / "mine.csv"
    assert command("--template", path).strip() == str(path)
    empty = pd.read_csv(path)
    assert list(empty) == list(own_cells.COLUMNS) and len(empty) == 144
    assert empty[list(own_cells.MEASURED)].isna().all(axis=None)
    filled(reference).to_csv(path, index=False)
    text = command(path)
    assert "| cells obtained | lmc | 144 | 144 published |" in text
    assert "| mean absolute difference | test_error | 0.00 points |" in text
    assert "not run" not in text.partition("## Cells")[0]


@pytest.mark.parametrize("unit", own_cells.UNITS)
def test_percent_and_fractions_score_the_same(unit: str, tmp_path: Path, reference) -> None:
    card = scorecard.of_export(written(filled(reference, unit), tmp_path))
    assert card.cells["difference"].abs().max() < 2e-4
    assert (card.cells.query("panel != 'cka_logits'")["status"] == "obtained").all()
    assert not card.headline["measure"].isin([scorecard.IN_EVERY_RUN]).any(), "said of this project's runs"


def test_only_filled_rows_count_and_seeds_are_repetitions(tmp_path: Path, reference) -> None:
    table = filled(reference)
    table.loc[10:, list(own_cells.MEASURED)] = np.nan
    both = pd.concat([table, table.assign(dense_seed=2, test_error=table["test_error"] + 0.01)])
    cells = scorecard.of_export(written(both, tmp_path)).cells.query("panel == 'test_error'")
    assert (cells["status"] == "obtained").sum() == 10
    assert set(cells.loc[cells["status"] == "obtained", "seeds"]) == {2}


@pytest.mark.parametrize(
    ("unit", "changes", "message"),
    [
        ("fraction", {"test_error": 8.5}, r"column 'test_error' holds 8\.5 in row 2.*write 0\.085, or change the unit"),
        ("fraction", {"density": 5.0}, r"column 'density' holds 5 in row 2.*write 0\.05"),
        ("fraction", {"lmc": -12.0}, r"column 'lmc' holds -12 in row 2"),
        ("percent", {"density": 0.05}, r"column 'density' holds nothing above 0\.05.*may be fractions"),
        ("percent", {"test_error": 0.085}, r"column 'test_error' holds nothing above 0\.085"),
        ("percent", {"lmc": -0.3}, r"column 'lmc' holds nothing above 0\.3"),
        ("percent", {"lmc": 30.0}, r"column 'lmc' holds 30\. .*give barrier heights a minus sign"),
        ("fraction", {"cka_softmax": 98.0}, r"column 'cka_softmax' holds 98 in row 2.* from 0 to 1"),
        ("ppm", {}, r"column 'unit' holds 'ppm'; write either fraction or percent in every row"),
        ("", {}, r"column 'unit' holds ''; write either"),
        ("fraction", {"lmc": "8.5%"}, "column 'lmc' holds something that is not a number"),
    ],
)
def test_values_that_contradict_their_unit_are_refused(unit, changes, message, tmp_path: Path) -> None:
    good = {"temperature": 160, "density": 0.05, "test_error": 0.1, "lmc": -0.2, "cka_softmax": 0.98}
    if unit == "percent":
        good |= {"density": 5, "test_error": 10, "lmc": -20}
    path = written(pd.DataFrame([{"unit": unit, **good, **changes}]), tmp_path)
    with pytest.raises(UserError, match=message):
        scorecard.of_export(path)


def test_row_numbers_are_those_of_the_file(tmp_path: Path, reference) -> None:
    table = filled(reference)
    table.loc[:4, list(own_cells.MEASURED)] = np.nan
    for name, value in (("cka_softmax", 7.0), ("test_error", 7.0)):
        wrong = table.copy()
        wrong.loc[6, name] = value
        with pytest.raises(UserError, match=f"'{name}' holds 7 in row 8"):
            scorecard.of_export(written(wrong, tmp_path))


def test_a_table_without_a_unit_names_the_template(tmp_path: Path, reference) -> None:
    with pytest.raises(UserError, match="lacks the column 'unit'.*--template"):
        scorecard.of_export(written(filled(reference).drop(columns="unit"), tmp_path))
    with pytest.raises(UserError, match="holds no measured value"):
        scorecard.of_export(written(own_cells.template(reference), tmp_path))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("LMC", "did you mean 'lmc'?"),
        ("test_err", "did you mean 'test_error'?"),
        ("cka", "did you mean 'cka_logits' or 'cka_softmax'?"),
        ("Density", "did you mean 'density'?"),
    ],
)
def test_a_misspelt_column_is_not_ignored(column: str, said: str, tmp_path: Path, reference) -> None:
    table = filled(reference)
    path = written(table.assign(**{column: 0.1}), tmp_path)
    with pytest.raises(UserError, match=f"unknown column '{column}'; {re.escape(said)}"):
        own_cells.read(path, reference)
    own_cells.read(written(table.assign(seconds=1, comment="fine"), tmp_path), reference)


def test_what_is_no_folder_of_cells_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(b"PK")
    (tmp_path / "results/a/b").mkdir(parents=True)
    (tmp_path / "results/a/b/cells.csv").touch()
    for path, said in (("nowhere", "does not exist"), ("mine.zip", "unzip it"), ("results", r"try \S*results/a$")):
        with pytest.raises(UserError, match=said):
            scorecard.of_export(tmp_path / path)


def test_mixed_units_are_refused(tmp_path: Path, reference) -> None:
    mixed = pd.concat([filled(reference).iloc[:3], filled(reference, "percent").iloc[3:]])
    with pytest.raises(UserError, match="'fraction' and 'percent'; write either"):
        scorecard.of_export(written(mixed, tmp_path))


def test_another_knob_is_not_scored_against_figure_2(tmp_path: Path, reference) -> None:
    path = written(filled(reference), tmp_path)
    with pytest.raises(UserError, match="values of batch_size, those of the reference.*--against"):
        scorecard.of_export(path, knob="batch_size")
    theirs = figure2.as_cells(figure2.load()).assign(study="theirs", origin="computed", knob="batch_size")
    theirs.to_csv(tmp_path / "cells.csv", index=False)
    with pytest.raises(UserError, match="temperatures of theirs are values of batch_size"):
        scorecard.of_export(tmp_path / "cells.csv", reference=reference, study="theirs")
    with pytest.raises(UserError, match="knob 'warmth' is not one of epochs"):
        scorecard.of_export(path, knob="warmth")


def test_a_study_of_any_name_is_scored_as_the_counterpart(tmp_path: Path) -> None:
    """Named with --study, and a study that is not there is refused with those that are."""
    cells = figure2.as_cells(figure2.load()).assign(study="theirs", origin="computed")
    cells.to_csv(tmp_path / "cells.csv", index=False)
    assert "There are no published numbers for this study" in command(tmp_path)
    assert "## theirs" in (text := command(tmp_path, "--study", "theirs"))
    assert "| cells obtained | test_error | 144 | 144 published |" in text
    with pytest.raises(UserError, match="holds no study 'other', but theirs"):
        scorecard.of_export(tmp_path, study="other")


def test_another_study_can_be_the_reference(tmp_path: Path) -> None:
    """An archive against itself agrees; shifted by more than both intervals it does not."""
    text = command(ARCHIVE, "--against", ARCHIVE)
    assert "Reference: cifar10-cpu in" in text and "| cells obtained | cka_logits | 9 | 9 reference |" in text
    assert "deviates" not in text and "published" not in text.lower().replace("no published numbers", "")
    reference = references.of_export(ARCHIVE)
    assert reference.protocol["retrain"]["batch_size"] == 64
    path = tmp_path / "mine.csv"
    command("--template", path, "--against", ARCHIVE)
    mine = pd.read_csv(path)
    assert len(mine) == 9
    mine["lmc"] = -0.9
    mine.loc[9] = {"unit": "fraction", "temperature": 7, "density": 0.5, "dense_seed": 1, "lmc": -0.9}
    card = scorecard.of_export(written(mine, tmp_path), reference=reference)
    judged = card.cells.query("panel == 'lmc'")
    assert len(judged) == 9 and (judged["difference"] < -0.5).all()
    assert card.headline.set_index("measure").loc[scorecard.ELSEWHERE, "value"] == 1


def test_a_reference_of_several_studies_must_be_chosen(tmp_path: Path) -> None:
    cells = pd.read_csv(ARCHIVE / "cifar10-cpu" / "cells.csv")
    cells = pd.concat([cells, cells.assign(study="other"), cells.assign(study="third", knob="batch_size")])
    cells.to_csv(tmp_path / "cells.csv", index=False)
    with pytest.raises(UserError, match=r"several studies \(cifar10-cpu, other, third\)"):
        references.of_export(tmp_path)
    assert references.of_export(tmp_path, study="other").study == "other"
    assert references.of_export(tmp_path, knob="batch_size").study == "third"
    with pytest.raises(UserError, match="no study of the sam_rho knob"):
        references.of_export(tmp_path, knob="sam_rho")


def test_the_command_wants_cells_or_a_template(tmp_path: Path) -> None:
    for arguments in ([], [str(ARCHIVE), "--template", str(tmp_path / "mine.csv")]):
        ended = CliRunner().invoke(main, ["scorecard", *arguments])
        assert ended.exit_code == 2 and "Give either CELLS" in ended.output
    path = tmp_path / "mine.csv"
    path.write_text("mine")
    ended = CliRunner().invoke(main, ["scorecard", "--template", str(path)])
    assert ended.exit_code == 2 and path.read_text() == "mine"
