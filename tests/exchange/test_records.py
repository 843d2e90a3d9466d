"""Importing the authors' own records, from files of the form that their scripts write."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
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
from three_regime.exchange import records
from three_regime.exchange.export import provenance_of
from three_regime.exchange.records import import_records, read_log
from three_regime.figures.explorer import content
from three_regime.study.grid import study_named
from three_regime.study.products import products_of
from three_regime.study.verdicts import judge
from three_regime.system.files import read_json, write_json

EPOCHS, TS = 4, np.linspace(0, 1, 11)
COLUMNS = ["Learning Rate", "Train Loss", "Valid Loss", "Train Acc.", "Valid Acc."]
CHANGES = {
    "dataset": "cifar10",
    "model": "preresnet-20",
    "temperatures": [10, 20],
    "densities": [0.05, 0.8],
    "dense": {"epochs": 20, "milestones": [10, 15]},
    "retrain": {"epochs": EPOCHS, "milestones": [2, 3]},
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


def written(root: Path, below: str = "SGD/lr_0.1/preresnet20_width1_seed1", length: int = EPOCHS) -> Path:
    """The records of one dense seed, two temperatures and two densities; paths name these settings."""
    dataset = "cifar10"
    written_log(root / "cv" / dataset / "train" / below / "log.txt", [10 + 3 * row for row in range(21)])
    for ratio in (0.95, 0.2):
        for epoch in (10, 20):
            place = f"unif/p_ratio_{ratio}/epoch_{epoch}/retrain_epoch{length}"
            cell = root / "cv" / dataset / "retrain" / below / place
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
                    {"dense": {**CHANGES["dense"], "sam_rho": 0.1}}):  # fmt: skip
        config = study(tmp_path / "other", replicas=[1, 2], **changes)
        if "prune" in changes:  # the dense log is the same
            assert import_records(config, archive, NAME).imported == {"dense": 2}
            continue
        with pytest.raises(UserError, match="holds no record of tiny"):
            import_records(config, archive, NAME)


def test_studies_of_batch_size_and_sam_have_other_folders(tmp_path: Path) -> None:
    rows = [50 + row for row in range(EPOCHS)]
    sam = "SAM_rho0.1/lr_0.1/preresnet20_width1_seed1"
    for network, cell in (
        ("SGD/lr_0.1/preresnet20_width1_seed1_batchsize32", "retrain_epoch160"),
        (sam, f"epoch_20/retrain_epoch{EPOCHS}"),
        (sam, f"epoch_10/retrain_epoch{EPOCHS}"),
    ):
        folder = tmp_path / "archive/cv/cifar10/retrain" / network / "unif/p_ratio_0.95" / cell
        written_log(folder / "retrain_seed1/log_finetune.txt", rows)
    steps = EPOCHS * 390
    by_iteration = {"epochs": None, "iterations": steps, "milestones": [steps // 2, steps * 3 // 4], "drop_last": True,
                    "batch_size": 128}  # fmt: skip
    dropping = {**CHANGES["dense"], "drop_last": True}
    for changes in ({"knob": "batch_size", "temperatures": [32], "dense": dropping, "retrain": by_iteration},
                    {"knob": "sam_rho", "temperatures": [0.1]}):  # fmt: skip
        config = study(tmp_path / changes["knob"], replicas=[1, 2], **changes)
        found = import_records(config, tmp_path / "archive", NAME)
        assert (found.imported, found.ignored) == ({"retrain": 1}, 2)
    other = {"knob": "sam_rho", "temperatures": [0.1], "dense": {**CHANGES["dense"], "batch_size": 32}}
    with pytest.raises(UserError, match="holds no record of tiny"):
        import_records(study(tmp_path / "other", replicas=[1, 2], **other), tmp_path / "archive", NAME)


def imported_errors(config: Config) -> list[float]:
    return [read_json(path)["test_error"] for path in sorted(study_named(config, NAME).folder.rglob("retrained.json"))]


def test_other_rates_and_lengths_in_paths_are_ignored(archive: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(archive, tmp_path / "archive"))
    written(own, below="SGD/lr_0.05/preresnet20_width1_seed1")
    written(own, length=2)
    written(own, below="SGD/lr_fast/preresnet20_width1_seed1")
    config, alone = study(tmp_path / "a", replicas=[1, 2]), study(tmp_path / "b", replicas=[1, 2])
    assert import_records(config, own, NAME).imported == import_records(alone, archive, NAME).imported
    assert imported_errors(config) == imported_errors(alone)
    rates = {"dense": {**CHANGES["dense"], "learning_rate": 0.05}, "replicas": [1, 2]}
    assert import_records(study(tmp_path / "c", **rates), own, NAME).imported == {
        "dense": 2, "retrain": 8, "lmc": 4, "cka": 4,
    }  # fmt: skip
    sources = [read_json(path)["provenance"]["source"] for path in (tmp_path / "c").rglob("*.json")]
    assert {("lr_0.05" in source, "/train/" in source) for source in sources} == {(True, True), (False, False)}


def test_two_records_of_one_result_are_refused(archive: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(archive, tmp_path / "archive"))
    written(own, below="SGD/lr_0.10/preresnet20_width1_seed1")
    config = study(tmp_path, replicas=[1, 2])
    with pytest.raises(UserError, match=r"lr_0\.1/.* and .*lr_0\.10/.* are records of the same result: move one"):
        import_records(config, own, NAME)
    assert not Path(config.results).exists()


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("dataset.label_noise 0.2", {"dataset": {"name": "cifar10", "label_noise": 0.2}}),
        ("dataset.train_images 40000", {"dataset": {"name": "cifar10", "train_images": 40_000}}),
        ("dataset.test_images 5000", {"dataset": {"name": "cifar10", "test_images": 5000}}),
        ("measure.train_images 2000", {"measure": {**CHANGES["measure"], "train_images": 2000}}),
        ("measure.batch_size 32", {"measure": {**CHANGES["measure"], "batch_size": 32}}),
        ("measure.cka_images 1000", {"measure": {**CHANGES["measure"], "cka_images": 1000}}),
        ("prune.criterion random", {"prune": {"criterion": "random"}}),
        ("prune.rounds 2", {"prune": {"rounds": 2, "epochs": 1}}),
        ("retrain.start reinitialised", {"retrain": {**CHANGES["retrain"], "start": "reinitialised"}}),
        ("retrain.optimiser adam", {"retrain": {**CHANGES["retrain"], "optimiser": "adam"}}),
        ("retrain.sam_rho 0.1", {"retrain": {**CHANGES["retrain"], "sam_rho": 0.1}}),
        ("retrain.batch_size 256", {"retrain": {**CHANGES["retrain"], "batch_size": 256}}),
        ("retrain.drop_last true", {"retrain": {**CHANGES["retrain"], "drop_last": True}}),
        ("retrain.schedule cosine", {"retrain": {**CHANGES["retrain"], "schedule": "cosine", "milestones": []}}),
        (r"dense.milestones \[10\]", {"dense": {**CHANGES["dense"], "milestones": [10]}}),
        ("dense.momentum 0.5", {"dense": {**CHANGES["dense"], "momentum": 0.5}}),
        ("dense.weight_decay 0.0", {"dense": {**CHANGES["dense"], "weight_decay": 0}}),
        ("dense.gamma 0.5", {"dense": {**CHANGES["dense"], "gamma": 0.5}}),
        ("dense.clip_norm 0.1", {"dense": {**CHANGES["dense"], "clip_norm": 0.1}}),
    ],
)
def test_a_study_that_they_never_ran_is_refused(archive: Path, tmp_path: Path, key: str, changes: dict) -> None:
    if "dataset" in changes:
        changes = {"dataset": {"train_images": None, "test_images": None, **changes["dataset"]}}
    config = study(tmp_path, replicas=[1, 2], **changes)
    with pytest.raises(UserError, match=f"tiny has {key}, which the authors never ran.*{key.split()[0]}"):
        import_records(config, archive, NAME)
    whole = {"dataset": {"name": "cifar10", "train_images": 50_000, "test_images": 10_000}, "replicas": [1, 2]}
    assert import_records(study(tmp_path / "whole", **whole), archive, NAME).imported


@pytest.mark.parametrize("number", ["1.2.3", ".", "1..", "0.9.5"])
def test_what_is_no_number_in_a_path_is_passed_over(archive: Path, tmp_path: Path, number: str) -> None:
    own = Path(shutil.copytree(archive, tmp_path / "archive"))
    retrain = own / "cv/cifar10/retrain/SGD/lr_0.1"
    (retrain / "preresnet20_width1_seed1/unif/p_ratio_0.95").rename(
        retrain / f"preresnet20_width1_seed1/unif/p_ratio_{number}"
    )
    shutil.copytree(retrain / "preresnet20_width1_seed1", retrain / f"preresnet20_width{number}_seed1")
    shutil.copytree(retrain, retrain.parents[1] / f"SAM_rho{number}" / retrain.name)
    assert import_records(study(tmp_path, replicas=[1, 2]), own, NAME).imported == {
        "dense": 2, "retrain": 4, "lmc": 2, "cka": 2,
    }  # fmt: skip


def test_records_name_nothing_of_this_machine(archive: Path, tmp_path: Path) -> None:
    config = study(tmp_path, replicas=[1, 2, 3])
    import_records(config, archive, NAME)
    found = provenance_of(study_named(config, NAME))
    assert found["environments"] == [{"versions": {}, "device": "elsewhere", "results": 38}]
    assert found["stages"]["retrain"]["arithmetic"] == [{"results": 12}]
    records = [read_json(path)["provenance"] for path in Path(config.results).rglob("*.json")]
    assert not {"commit", "kernels", "machine", "host", "threads"} & {key for record in records for key in record}
    table = tables.build(study_named(config, NAME))["provenance"]
    assert set(table["origin"]) == {"imported"} and table[["torch", "commit"]].isna().all(axis=None)
    folder = tmp_path / "export" / NAME
    write_json(folder.parent / "provenance.json", {NAME: found})
    assert ["38 results", "elsewhere"] in content._summary(folder)


def test_a_result_of_another_process_is_not_replaced(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears while the import waits for the lock."""
    config = study(tmp_path, replicas=[1, 2, 3])
    product = next(iter(products_of(study_named(config, NAME), ["retrain"])))
    locked = records.locked

    @contextlib.contextmanager
    def waiting(*job: object) -> Iterator[None]:
        with locked(*job):
            write_json(product.outputs[0], {"provenance": {}})
            yield

    monkeypatch.setattr(records, "locked", waiting)
    with pytest.raises(UserError, match=r"retrained\.json exists already; delete it first"):
        import_records(config, archive, NAME)
    assert read_json(product.outputs[0]) == {"provenance": {}}


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
    elif how == "complex":
        np.save(path, np.array([0.5, 0.5 + 1j]))
    elif how == "renamed":
        content = path.with_suffix(".npy")
        np.save(content, np.ones(3))
        content.replace(path)
    elif how == "inflated":
        np.savez_compressed(path, **{each: np.arange(11.0) for each in ("tr_err", "tr_nll", "te_err", "te_nll")})
        content = bytearray(path.read_bytes())
        content[content.index(b"tr_err.npy") + 30] ^= 0xFF
        path.write_bytes(content)
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
        ("similarity_*.npy", "complex", "holds complex128, not real numbers"),
        ("curve_points_11.npz", "renamed", "is no NPZ file"),
        ("curve_points_11.npz", "inflated", "cannot be read"),
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
