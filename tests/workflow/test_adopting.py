"""Adopting results from another machine, with other times and without Snakemake's records."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from checkout import Checkout
from click.testing import CliRunner
from finished import FILES, NAME, OPTIONS, copied, inside, shuffle_times, study_of, tiny

from three_regime.cli import main
from three_regime.study.products import pack
from three_regime.study.verdicts import Finding, Verdict, differences, judge
from three_regime.workflow import adopting, snakemake_records
from three_regime.workflow.adopting import adopt

NOTHING: dict[str, int] = {}


def planned(checkout: Checkout, *overlays: str) -> dict[str, int]:
    return {rule: count for rule, count in checkout.planned("landscape", *OPTIONS, *overlays).items()
            if rule != "landscape"}  # fmt: skip


def adopted(checkout: Checkout, *overlays: str) -> str:
    with inside(checkout):
        files = [option for path in (*FILES[1:], *overlays) for option in ("--configfile", str(path))]
        ended = CliRunner().invoke(main, ["adopt", *files])
    assert ended.exit_code == 0, ended.output
    return ended.output


def changed(checkout: Checkout) -> str:
    """An overlay that changes a setting of retraining."""
    (checkout.path / "changed.yaml").write_text("studies: {tiny: {retrain: {learning_rate: 0.05}}}\n")
    return "changed.yaml"


def findings(**changes: object) -> dict[str, Finding]:
    """Folder below the study and stage → finding, of those that are not done."""
    study = study_of(tiny(**changes))
    found = judge(study, verify=True)
    return {
        f"{finding.product.outputs[0].parent.relative_to(study.folder)} {finding.product.stage}": finding
        for finding in found
        if not finding.done
    }


@pytest.mark.slow
def test_an_adopted_copy_notices_later_changes(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own", shutil.copy)  # cp -r
    shuffle_times(own)
    assert planned(own)["retrain_tiny"] == 2, "Snakemake alone would plan it again"
    text = adopted(own)
    assert "tiny: 22 done" in text and "9 jobs were recorded" in text
    assert planned(own) == NOTHING
    # Snakemake has records now, so that it notices what changes after this.
    assert planned(own, changed(own)) == {"retrain_tiny": 2, "lmc_tiny": 2, "cka_tiny": 2}


@pytest.mark.slow
def test_a_copy_with_its_times_is_never_accepted_stale(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")  # cp -a
    other = changed(own)
    refused = own.run("--dry-run", "landscape", *OPTIONS, other, check=False)
    assert "Snakemake has no record of results/tiny/tiny/seed1/epochs002/density010/replica1/retrained.json" in refused
    assert "it is stale: training.learning_rate from 0.1 to 0.05. Run `python -m three_regime adopt`" in refused
    text = adopted(own, other)
    assert "retrain, stale: " in text and "training.learning_rate from 0.1 to 0.05" in text
    assert planned(own, other) == {"retrain_tiny": 2, "lmc_tiny": 2, "cka_tiny": 2}


def test_only_the_jobs_of_what_is_damaged_are_planned(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        path = Path("results/tiny/tiny/seed1/epochs004/density010/replica2/retrained.safetensors")
        content = bytearray(path.read_bytes())
        content[-5] ^= 1  # a bit of a tensor: the metadata is whole
        times = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    text = adopted(own)
    assert f"retrain, damaged: {path.parent}: {path} is damaged: " in text
    assert "16 done" not in text and "19 done, 2 stale, 1 damaged" in text
    assert planned(own) == {"retrain_tiny": 1, "lmc_tiny": 1, "cka_tiny": 1}


def test_what_is_stale_is_named_with_the_setting_from_and_to(finished_tiny: Checkout) -> None:
    with inside(finished_tiny):
        assert findings() == {}
        retrained = findings(retrain={"learning_rate": 0.05})["seed1/epochs002/density010/replica1 retrain"]
        dense = findings(dense={"optimiser": "adam"})
        milestones = findings(retrain={"milestones": [1, 2]})["seed1/epochs002/density010/replica1 retrain"]
        grids = findings(densities=[0.5], replicas=[2, 1])
    assert (retrained.verdict, retrained.reason) == (Verdict.STALE, "training.learning_rate from 0.1 to 0.05")
    assert "training.optimiser from sgd to adam" in dense["seed1/epochs002 dense"].reason
    assert "training.momentum from 0.9 to nothing" in dense["seed1/epochs002 dense"].reason
    assert "dense.safetensors, which is not up to date" in dense["seed1/epochs002/density010 prune"].reason
    assert milestones.reason == "training.milestones from [2] to [1, 2]"
    assert grids == {}, "the grid is no setting of a member"


def test_a_version_bump_is_named(finished_tiny: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from three_regime.study.stages import STAGES

    monkeypatch.setitem(STAGES, "lmc", replace(STAGES["lmc"], version=2))
    with inside(finished_tiny):
        found = findings()
    assert {finding.reason for finding in found.values()} == {"version from 1 to 2"}
    assert len(found) == 4


def test_files_of_another_run_and_damaged_files_are_named(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    with inside(own):
        cell = study_of(tiny()).at(1, 2) / "density010"
        shutil.copy(cell / "replica1/retrained.json", cell / "replica2/retrained.json")
        (cell / "pair1-2/lmc.json").write_text('{"lmc": ')
        (cell / "pair1-2/cka.json").write_text('{"softmax": 1}')
        other = study_of(tiny()).at(1, 4) / "density010"
        (other / "replica1/retrained.safetensors").unlink()
        shutil.copy(study_of(tiny()).at(1, 4) / "density050/pruned.safetensors", other / "pruned.safetensors")
        found = findings()
    at = "seed1/epochs002/density010"
    assert found[f"{at}/replica2 retrain"].verdict is Verdict.DAMAGED
    assert "not of the same run" in found[f"{at}/replica2 retrain"].reason
    assert found[f"{at}/pair1-2 lmc"].verdict == found[f"{at}/pair1-2 cka"].verdict == Verdict.DAMAGED
    assert "lmc.json is not valid JSON" in found[f"{at}/pair1-2 lmc"].reason
    assert "cka.json carries no provenance" in found[f"{at}/pair1-2 cka"].reason
    at = "seed1/epochs004/density010"
    assert found[f"{at} prune"].verdict is Verdict.DAMAGED and "not of the same run" in found[f"{at} prune"].reason
    assert found[f"{at}/replica1 retrain"].verdict is Verdict.MISSING
    assert "made from another results/tiny/tiny/seed1/epochs004/density010/pruned.safetensors" in (
        found[f"{at}/replica2 retrain"].reason
    )


def test_without_the_data_nothing_is_recorded_nor_set_back(
    finished_tiny: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    monkeypatch.setattr(adopting, "_record", lambda *_: None)
    with inside(own):
        data = Path("data/digits.safetensors")
        content = data.read_bytes()
        data.unlink()
        found = adopt(tiny(), FILES)
        assert found.unprepared == [data]
        assert found.recorded == 0 and all(finding.done for finding in found.findings[NAME])
        assert (
            min(path.stat().st_mtime_ns for path in Path("results").rglob("retrained.*"))
            > snakemake_records.LONG_AGO_NS
        )
        assert "run `snakemake data`" in adopting.render(found, dry_run=False)
        data.write_bytes(content)
        found = adopt(tiny(), FILES)
        assert found.recorded == 9 and all(finding.done for finding in found.findings[NAME])
        newest = data.stat().st_mtime_ns
        assert all(path.stat().st_mtime_ns >= newest for path in Path("results").rglob("retrained.*"))


def test_a_dry_run_touches_nothing(finished_tiny: Checkout, tmp_path: Path) -> None:
    own = copied(finished_tiny, tmp_path / "own", shutil.copy)
    shuffle_times(own)
    with inside(own):
        before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
        ended = CliRunner().invoke(main, ["adopt", "--dry-run", *OPTIONS])
        assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    assert ended.output == "tiny: 22 done\n"


def test_only_tables_known_to_be_of_these_results_are_kept(
    finished_tiny: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copied(finished_tiny, tmp_path / "own")
    monkeypatch.setattr(adopting, "_record", lambda *_: None)
    cells = own.path / "results/tiny/tiny/cells.csv"
    with inside(own):
        assert adopt(tiny(), FILES).remade_tables == [NAME], "without records nobody knows with which thresholds"
        assert cells.stat().st_mtime_ns == snakemake_records.LONG_AGO_NS
        os.utime(cells)
        Path(".snakemake/metadata").mkdir(parents=True)
        assert adopt(tiny(), FILES).remade_tables == []
        assert cells.stat().st_mtime_ns > snakemake_records.LONG_AGO_NS
        pack(study_of(tiny()), "cka", 1, 2)[0].outputs[0].unlink()
        assert adopt(tiny(), FILES).remade_tables == [NAME]


def test_differences_of_recipes_are_told_at_any_depth() -> None:
    before = {"stage": "dense", "training": {"rate": 0.1, "old": 1}, "version": 1}
    after = {"stage": "dense", "training": {"rate": 0.2, "new": None}, "version": 1}
    assert list(differences(before, after)) == [
        "training.rate from 0.1 to 0.2", "training.old from 1 to nothing",
    ]  # fmt: skip
    assert list(differences(before, before)) == []
