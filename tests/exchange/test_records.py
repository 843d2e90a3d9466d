"""Importing the authors' own records, from files of the form that their scripts write."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from tiny_study import NAME, mapping

from three_regime import figures
from three_regime.analysis import references, regime_tables, scorecard, tables
from three_regime.cli import main
from three_regime.config import Config, resolve
from three_regime.errors import UserError
from three_regime.exchange.records import import_records, read_log
from three_regime.study.grid import study_named
from three_regime.study.verdicts import judge

EPOCHS, TS = 4, np.linspace(0, 1, 11)
COLUMNS = ["Learning Rate", "Train Loss", "Valid Loss", "Train Acc.", "Valid Acc."]
CHANGES = {
    "dataset": "cifar10",
    "model": "preresnet-20",
    "temperatures": [10, 20],
    "densities": [0.05, 0.8],
    "dense": {"epochs": 20, "milestones": [10]},
    "retrain": {"epochs": EPOCHS, "milestones": [2]},
    "measure": {"train_images": None, "cka_images": 6464, "last_epochs": 2, "points": 11},
}
SIMILARITY = (
    "similarity_seed{}_seed{}_removeMaskFalse_meaSeed1_batches100_mixupFalse_alpha16_repeat1_flatFalse_cka_results"
)


def study(folder: Path, **changes: object) -> Config:
    return resolve(mapping(folder, **{**CHANGES, **changes}))


def written_log(path: Path, accuracies: list[float]) -> None:
    """As the authors' ``Logger``: a tab after every value."""
    rows = [[0.1, 0.5 - 0.01 * row, 0.6, 80 + row, accuracy] for row, accuracy in enumerate(accuracies)]
    text = "".join(f"{name}\t" for name in COLUMNS) + "\n"
    text += "".join("".join(f"{value:.6f}\t" for value in row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def accuracy(epoch: int, ratio: float, replica: int, row: int) -> float:
    return 90 - 10 * ratio + epoch / 10 + replica / 5 + row / 7


def errors(epoch: int, ratio: float, first: int, second: int) -> np.ndarray:
    """Training errors in percent along a line, with a barrier whose height depends on the place."""
    height = 30 * ratio - epoch / 10 + first / 3
    return 2 + second * TS + height * 4 * TS * (1 - TS)


def similarity(epoch: int, ratio: float, first: int, second: int) -> float:
    return 0.9 - ratio / 10 + epoch / 1000 - second / 100 + first / 500


def written(root: Path, dataset: str = "cifar10", network: str = "preresnet20_width1_seed1") -> Path:
    """The records of one dense seed, two temperatures and two densities."""
    below = Path("SGD/lr_0.1") / network
    written_log(root / "cv" / dataset / "train" / below / "log.txt", [10 + 3 * row for row in range(21)])
    for ratio in (0.95, 0.2):
        for epoch in (10, 20):
            cell = root / "cv" / dataset / "retrain" / below / f"unif/p_ratio_{ratio}/epoch_{epoch}/retrain_epoch160"
            for replica in (1, 2, 3):
                rows = [accuracy(epoch, ratio, replica, row) for row in range(EPOCHS)]
                written_log(cell / f"retrain_seed{replica}" / "log_finetune.txt", rows)
            for first, second in ((1, 2), (1, 3), (2, 3)):
                line, cka = (cell / kind / f"seed{first}_seed{second}" for kind in ("lmc", "cka"))
                line.mkdir(parents=True)
                cka.mkdir(parents=True)
                found = errors(epoch, ratio, first, second)
                np.savez(line / "curve_points_11.npz", ts=TS, tr_err=found, tr_nll=found / 50, te_err=found + 5,
                         te_nll=found / 40, tr_acc=100 - found, tr_err_min=found.min())  # fmt: skip
                value = similarity(epoch, ratio, first, second)
                np.save(cka / f"{SIMILARITY.format(first, second)}.npy", np.array([value / 2, value]))
                np.save(cka / "cka_similarity_batches100_repeat1_flatFalse.npy", np.array([0.1, 0.2]))
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("archive"))


def test_cells_equal_the_authors_notebook(archive: Path, tmp_path: Path) -> None:
    config = study(tmp_path, replicas=[1, 2, 3])
    found = import_records(config, archive, NAME)
    assert found.imported == {"dense": 2, "retrain": 12, "lmc": 12, "cka": 12}
    assert found.ignored == 0 and not found.kept
    cells = tables.build(study_named(config, NAME))["cells"].set_index(["temperature", "density"])
    for ratio, density in ((0.95, 0.05), (0.2, 0.8)):
        for epoch in (10, 20):
            cell = cells.loc[epoch, density]
            tests = [1 - 0.01 * accuracy(epoch, ratio, each, row) for each in (1, 2, 3) for row in (2, 3)]
            assert cell["test_error"] == pytest.approx(np.mean(tests), abs=1e-7)
            assert cell["dense_test_error"] == pytest.approx(1 - 0.01 * (10 + 3 * epoch))
            heights = []
            for pair in ((1, 2), (1, 3), (2, 3)):  # the notebook's own lines
                curve = 0.01 * errors(epoch, ratio, *pair)
                endpoint_mean = 0.5 * (curve[0] + curve[-1])
                heights.append(endpoint_mean - curve[np.abs(endpoint_mean - curve).argmax()])
            assert cell["lmc"] == pytest.approx(np.mean(heights), abs=1e-9)
            similar = [similarity(epoch, ratio, *pair) for pair in ((1, 2), (1, 3), (2, 3))]
            assert cell["cka_softmax"] == pytest.approx(np.mean(similar))
            assert cell["cka_logits"] == pytest.approx(np.mean(similar) / 2)
    assert set(cells["origin"]) == {"imported"}


def test_tables_figures_and_scorecard_show_them(archive: Path, tmp_path: Path) -> None:
    config = study(tmp_path, replicas=[1, 2, 3])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = ["import", str(archive), "--study", NAME, "--base", str(tmp_path / "config.yaml")]
    said = CliRunner().invoke(main, command)
    assert said.exit_code == 0, said.output
    assert "retrain: 12 imported, 0 kept" in said.output
    assert "retrain: 0 imported, 12 kept" in CliRunner().invoke(main, command).output
    of_study = study_named(config, NAME)
    assert {finding.imported for finding in judge(of_study, ["lmc", "cka"]) if finding.done} == {True}
    tables.write(of_study)
    regime_tables.write(of_study.folder, of_study.thresholds)
    grid = pd.read_csv(of_study.table("grid"))
    assert len(grid) == 4 and grid["lmc"].notna().all()
    [*drawn] = figures.draw(of_study.folder, ["lmc", "lmc_lines", "training_curves"], of_study.thresholds)
    assert all(path.exists() for path in drawn)
    scored = scorecard.score(references.published(), grid, counterpart=NAME).cells
    assert (scored["status"] == "imported").sum() == 4 * scored["panel"].nunique()


def test_other_places_and_studies_are_ignored(archive: Path, tmp_path: Path) -> None:
    found = import_records(study(tmp_path, densities=[0.05], temperatures=[20], replicas=[1, 2]), archive, NAME)
    assert found.imported == {"dense": 1, "retrain": 2, "lmc": 1, "cka": 1}
    assert found.ignored > 30
    for changes in ({"model": "preresnet-20x2"}, {"dataset": "svhn"}, {"prune": {"allocation": "global"}},
                    {"dense": {"epochs": 20, "milestones": [10], "sam_rho": 0.1}}):  # fmt: skip
        config = study(tmp_path / "other", replicas=[1, 2], **changes)
        if "prune" in changes:  # the dense log is the same
            assert import_records(config, archive, NAME).imported == {"dense": 2}
            continue
        with pytest.raises(UserError, match="holds no record of tiny"):
            import_records(config, archive, NAME)


def test_studies_of_batch_size_and_sam_have_other_folders(tmp_path: Path) -> None:
    rows = [50 + row for row in range(EPOCHS)]
    for network, cell in (("SGD/lr_0.1/preresnet20_width1_seed1_batchsize32", "retrain_epoch40"),
                          ("SAM_rho0.1/lr_0.1/preresnet20_width1_seed1", "epoch_20/retrain_epoch160"),
                          ("SAM_rho0.1/lr_0.1/preresnet20_width1_seed1", "epoch_10/retrain_epoch160")):  # fmt: skip
        folder = tmp_path / "archive/cv/cifar10/retrain" / network / "unif/p_ratio_0.95" / cell
        written_log(folder / "retrain_seed1/log_finetune.txt", rows)
    for knob, temperature in (("batch_size", 32), ("sam_rho", 0.1)):
        config = study(tmp_path / knob, knob=knob, temperatures=[temperature], replicas=[1, 2])
        found = import_records(config, tmp_path / "archive", NAME)
        assert (found.imported, found.ignored) == ({"retrain": 1}, 2)


def first(archive: Path, name: str) -> Path:
    return min(archive.rglob(name))


def replaced(archive: Path, name: str, how: str) -> None:
    path = first(archive, name)
    if how == "objects":
        np.savez(path, tr_err=np.array([{}] * 11, dtype=object)) if name.endswith("npz") else np.save(
            path, np.array([0.5, {}], dtype=object)
        )
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif how == "points":
        np.savez(path, tr_err=np.ones(3), tr_nll=np.ones(3), te_err=np.ones(3), te_nll=np.ones(3))
    elif how == "nan":
        np.save(path, np.array([0.5, np.nan]))
    elif how == "short":
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("curve_points_11.npz", "objects", "holds Python objects.*save its numbers again as float arrays"),
        ("similarity_*.npy", "objects", "holds Python objects"),
        ("curve_points_11.npz", "cut", "cannot be read"),
        ("curve_points_11.npz", "points", "does not have the study's 11 points"),
        ("similarity_*.npy", "nan", "not finite"),
        ("log_finetune.txt", "short", "has 3 epochs; the study retrains for 4"),
        ("log_finetune.txt", "cut", "cut off"),
    ],
)
def test_what_cannot_be_read_is_refused(archive: Path, tmp_path: Path, name: str, how: str, said: str) -> None:
    own = Path(shutil.copytree(archive, tmp_path / "archive"))
    replaced(own, name, how)
    config = study(tmp_path, replicas=[1, 2, 3])
    with pytest.raises(UserError, match=said):
        import_records(config, own, NAME)
    assert not Path(config.results).exists() or not list(Path(config.results).rglob("*.json"))


def test_a_result_in_its_place_is_not_replaced(archive: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(archive, tmp_path / "archive"))
    config = study(tmp_path, replicas=[1, 2, 3])
    import_records(config, own, NAME)
    written_log(first(own, "log_finetune.txt"), [1.0] * EPOCHS)
    with pytest.raises(UserError, match="exists already; delete it first"):
        import_records(config, own, NAME)


def test_logs_of_batch_size_studies_have_more_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    names = ["Learning Rate", "Epoch", "Num Iter", *COLUMNS[1:]]
    path.write_text("\t".join(names) + "\t\n" + "\t".join(str(float(value)) for value in range(7)) + "\t\n")
    assert read_log(path) == [dict(zip(names, map(float, range(7)), strict=True))]


def test_places_are_for_checkpoints_and_needed_there(archive: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        ended = CliRunner().invoke(main, ["import", *arguments, "--study", NAME])
        assert ended.exit_code != 0
        return ended.output

    assert "--seed, --density: only for a checkpoint" in said(str(archive), "--seed", "1", "--density", "0.05")
    assert "does not exist" in said(str(tmp_path / "nowhere"))
    (tmp_path / "one.pt").touch()
    assert "a checkpoint needs --seed and --temperature" in said(str(tmp_path / "one.pt"), "--seed", "1")
