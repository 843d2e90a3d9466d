"""Exports for sharing."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import Checkout
from click.testing import CliRunner
from finished import NAME, OPTIONS, copied, inside, study_of, tiny

from three_regime.analysis import regime_tables, seed_means, tables
from three_regime.cli import main
from three_regime.config import plugins, resolve
from three_regime.config.thresholds import Thresholds
from three_regime.errors import UserError
from three_regime.exchange.export import MANIFEST, export, provenance_of
from three_regime.exchange.importing import import_checkpoint
from three_regime.exchange.redraw import redraw
from three_regime.figures import explorer
from three_regime.figures.study import Tables, data_of
from three_regime.system.files import read_json, write_csv, write_result


@pytest.fixture
def own(finished_tiny: Checkout, tmp_path: Path) -> Checkout:
    """The finished study with regimes and a figure."""
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        folder = study_of(tiny()).folder
        regime_tables.write(folder, Thresholds())
        (folder / "figures").mkdir(exist_ok=True)
        for suffix in ("png", "pdf", "part"):
            (folder / f"figures/phase_diagram.{suffix}").write_text("drawn")
        write_csv(folder / "figures/phase_diagram.csv", data_of(Tables(folder, Thresholds()), "phase_diagram"))
    return own


def test_figures_that_do_not_follow_from_the_tables_are_refused(own: Checkout) -> None:
    with inside(own):
        drawn = study_of(tiny()).folder / "figures/phase_diagram.csv"
        drawn.write_text(drawn.read_text().replace("0.", "1.", 1))
        with pytest.raises(UserError, match=r"phase_diagram\.csv does not follow from the tables"):
            export(tiny(), Path("mine"))
        drawn.unlink()
        Path(tiny().results, "explorer.html").write_text("an old page")
        with pytest.raises(UserError, match=r"explorer\.html does not follow from the tables"):
            export(tiny(), Path("mine"))
        study, published = study_of(tiny()), tiny().regimes.thresholds if tiny().published else None
        explorer.write(Path(tiny().results, "explorer.html"), {study.folder: study.thresholds}, published)
        export(tiny(), Path("mine"))


def test_figures_of_an_earlier_configuration_stay_behind(own: Checkout) -> None:
    with inside(own):
        for kind in ("csv", "png"):
            (study_of(tiny()).folder / f"figures/agreement.{kind}").write_text("of a measure named before")
        folder = export(tiny(), Path("mine"))
        assert not list((folder / NAME / "figures").glob("agreement.*"))
        assert (folder / NAME / "figures/phase_diagram.png").is_file()


def test_a_removed_table_is_named(own: Checkout) -> None:
    with inside(own):
        folder = export(tiny(), Path("mine"))
        (folder / NAME / "lines.csv").unlink()
        with pytest.raises(UserError, match=r"tiny/lines\.csv \(missing\): altered since the export was packed"):
            redraw(folder, Path("again"))


def test_plugin_files_travel_along_but_are_not_run(own: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    with inside(own):
        Path("travelling.py").write_text("")
        monkeypatch.setattr(plugins, "_loaded", {"travelling"})
        config = tiny().model_copy(update={"plugins": ("travelling.py",)})
        folder = export(config, Path("mine"))
        plugins._loaded.clear()
        assert (folder / "plugins/travelling.py").is_file()
        with pytest.raises(UserError, match=r"if you trust it, give --plugin mine/plugins/travelling\.py"):
            redraw(folder, Path("again"))
        plugins.load([str(folder / "plugins/travelling.py")])
        assert (redraw(folder, Path("again")) / "plugins/travelling.py").is_file()


def test_a_full_disk_is_reported_with_the_target(own: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    with inside(own):
        monkeypatch.setattr(shutil, "copyfile", full)
        with pytest.raises(UserError, match=r"no free disk space while writing mine"):
            export(tiny(), Path("mine"))


def test_curves_are_exported_and_redrawn_though_never_drawn(own: Checkout) -> None:
    with inside(own):
        curves = study_of(tiny()).table("curves").read_bytes()
        out = export(tiny(), Path("mine"))
        assert (out / NAME / "figures/training_curves.csv").read_bytes() == curves
        again = redraw(out, Path("again"))
        assert (again / NAME / "figures/training_curves.csv").read_bytes() == curves


def test_an_export_is_read_like_results(own: Checkout) -> None:
    with inside(own):
        out = export(tiny(), Path("share/mine"))
        cells = seed_means.read_cells(out)
        original = seed_means.read_cells(study_of(tiny()).folder)
    pd.testing.assert_frame_equal(cells, original)
    assert len(cells) == 4 and cells["lmc"].notna().all()


def test_it_holds_tables_figures_and_settings_but_no_weights(own: Checkout) -> None:
    with inside(own):
        out = (own.path / export(tiny(), Path("mine"))).resolve()
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"config.yaml", "provenance.json", MANIFEST, "tiny/cells.csv", "tiny/regimes.csv", "tiny/selection.csv",
            "tiny/figures/phase_diagram.png"} <= names  # fmt: skip
    assert not any(name.endswith((".safetensors", ".part", "/curves.csv")) for name in names)
    assert sum(path.stat().st_size for path in out.rglob("*")) < 200_000
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert resolve(settings).studies[NAME] == tiny().studies[NAME]
    assert list(settings["studies"]) == [NAME]


def test_the_manifest_lists_every_file_with_its_digest(own: Checkout) -> None:
    with inside(own):
        out = (own.path / export(tiny(), Path("mine"))).resolve()
    manifest = read_json(out / MANIFEST)
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert manifest["files"].keys() == files.keys() - {MANIFEST}
    for name, about in manifest["files"].items():
        content = files[name].read_bytes()
        assert about == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert manifest["studies"] == [NAME]


def test_provenance_names_each_environment_and_recipe_once(own: Checkout) -> None:
    source = Path("results/tiny/tiny/seed1/epochs002/density010/replica1/retrained.safetensors")
    with inside(own):
        source.rename("elsewhere.safetensors")
        source.with_suffix(".json").unlink()
        import_checkpoint(
            tiny(), Path("elsewhere.safetensors"), NAME, seed=1, temperature=2, density=0.1, replica=1
        )  # fmt: skip
        with pytest.raises(UserError, match="was built from other results than the current ones"):
            export(tiny(), Path("mine"))
        tables.write(study_of(tiny()))
        with pytest.raises(UserError, match=r"grid\.csv does not follow from the tables"):
            export(tiny(), Path("mine"))
        regime_tables.write(study_of(tiny()).folder, Thresholds())
        (study_of(tiny()).folder / "figures/phase_diagram.csv").unlink()
        digest = hashlib.sha256(Path("elsewhere.safetensors").read_bytes()).hexdigest()
        found = read_json(export(tiny(), Path("mine")) / "provenance.json")[NAME]
    assert sum(environment["results"] for environment in found["environments"]) == 22
    assert len(found["environments"]) == 1
    assert [recipe["results"] for recipe in found["stages"]["retrain"]["recipes"]] == [8]
    assert [recipe["training"]["length"] for recipe in found["stages"]["dense"]["recipes"]] == [2, 4]
    assert found["imported"] == {"seed1/epochs002/density010/replica1": digest}
    assert "host" not in json.dumps(found)


def test_provenance_says_how_networks_were_computed(own: Checkout) -> None:
    with inside(own):
        found = read_json(export(tiny(), Path("mine")) / "provenance.json")[NAME]["stages"]["retrain"]["arithmetic"]
        records = [read_json(path)["provenance"] for path in study_of(tiny()).folder.rglob("retrained.json")]
    expected = Counter((record["kernels"], record["together"]) for record in records)
    assert {(way["kernels"], way["together"]): way["results"] for way in found} == expected


def test_a_dense_run_counts_once_for_all_its_checkpoints(own: Checkout) -> None:
    with inside(own):
        found = read_json(export(tiny(), Path("mine")) / "provenance.json")[NAME]["stages"]
        last = read_json(study_of(tiny()).at(1, 4) / "dense.json")["provenance"]["wall_s"]
        retrained = [
            read_json(path)["provenance"]["wall_s"] for path in study_of(tiny()).folder.rglob("retrained.json")
        ]
    assert found["dense"]["wall_s"] == pytest.approx(last, abs=1e-3)
    assert found["retrain"]["wall_s"] == pytest.approx(sum(retrained), abs=1e-2)


def test_a_zip_holds_the_same_and_is_the_same_each_time(own: Checkout) -> None:
    with inside(own):
        folder, first = export(tiny(), Path("mine")), export(tiny(), Path("a/mine.zip"))
        second = export(tiny(), Path("b/mine.zip"))
        assert first.read_bytes() == second.read_bytes()
        with zipfile.ZipFile(first) as archive:
            archive.extractall("unpacked")
        names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        unpacked = Path("unpacked/mine")
        assert {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()} == names
        assert all((unpacked / name).read_bytes() == (folder / name).read_bytes() for name in names)
        assert len(seed_means.read_cells(unpacked)) == 4


def test_nothing_is_overwritten_and_nothing_half_written(own: Checkout) -> None:
    with inside(own):
        Path("mine").mkdir()
        with pytest.raises(UserError, match="mine exists already"):
            export(tiny(), Path("mine"))
        (study_of(tiny()).folder / "cells.csv").unlink()
        with pytest.raises(UserError, match=r"cells\.csv is missing: run `snakemake tables`"):
            export(tiny(), Path("other"))
        assert not Path("other").exists()


@pytest.mark.parametrize("keep", ["none", "all"])
def test_weights_that_are_not_there_are_named(own: Checkout, keep: str) -> None:
    with inside(own):
        for path in study_of(tiny()).folder.rglob("retrained.safetensors"):
            path.unlink()
        with pytest.raises(UserError, match=rf"tiny has no retrained networks .*`keep` is {keep}\).*without --weights"):
            export(tiny(keep=keep), Path("mine"), weights=True)
        assert not Path("mine").exists()
        assert export(tiny(keep=keep), Path("mine")).is_dir()


def test_imported_measures_of_a_pair_are_both_listed(own: Checkout) -> None:
    folder = Path("results/tiny/tiny/seed1/epochs002/density010/pair1-2")
    with inside(own):
        for name in ("lmc", "cka"):
            result = read_json(folder / f"{name}.json")
            result["provenance"] |= {"origin": "imported", "source_sha256": f"digest of {name}"}
            write_result(folder / f"{name}.json", result)
        found = provenance_of(study_of(tiny()))["imported"]
    place = "seed1/epochs002/density010/pair1-2"
    assert found == {f"{place}/lmc.json": "digest of lmc", f"{place}/cka.json": "digest of cka"}


def test_the_command_names_what_it_wrote(own: Checkout) -> None:
    with inside(own):
        ended = CliRunner().invoke(main, ["export", "--out", "mine.zip", *OPTIONS])
    assert ended.exit_code == 0, ended.output
    assert ended.output.strip() == "mine.zip"
