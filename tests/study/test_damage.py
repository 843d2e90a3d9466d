"""Damaged results are named, set aside and recomputed; they are never accepted and block nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout
from click.testing import CliRunner
from finished import FILES, NAME, OPTIONS, copied, inside, study_of, tiny
from tiny_study import ROOT, config, digests, files, products, run
from tiny_study import study_of as small_study

from three_regime.analysis import regime_tables, tables
from three_regime.cli import main
from three_regime.errors import Damaged, UserError
from three_regime.jobs.run import Outcome
from three_regime.planning import explain, status
from three_regime.planning.plan import make
from three_regime.study import damage
from three_regime.study.damage import LONG_AGO_NS
from three_regime.study.verdicts import Verdict, judge
from three_regime.system.files import (
    PROVENANCE_KEY,
    RESULT_DIGEST_KEY,
    read_arrays,
    replacing,
    write_arrays,
    write_result,
)
from three_regime.workflow import adopting, verifying

LMC = Path("results/tiny/tiny/seed1/epochs002/density010/pair1-2/lmc.json")
TABLES = Path("results/tiny/tiny/cells.csv")


@pytest.fixture
def own(finished_tiny: Checkout, tmp_path: Path) -> Checkout:
    return copied(finished_tiny, tmp_path / "own")


def flip(path: Path) -> None:
    """Flip a bit of the last tensor, keeping metadata and times."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def signed(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change a result and update its digest."""

    def alter(path: Path) -> None:
        result = json.loads(path.read_text())
        change(result)
        result[PROVENANCE_KEY].pop(RESULT_DIGEST_KEY)
        write_result(path, result)

    return alter


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


ODD: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_text(path.read_text()[:-9]),
    "empty": lambda path: path.write_text(""),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "not a number": lambda path: path.write_text(path.read_text().replace('"lmc": ', '"lmc": NaN, "x": ', 1)),
    "too large": lambda path: path.write_text(path.read_text().replace('"lmc": ', '"lmc": 1e999, "x": ', 1)),
    "deep": lambda path: path.write_text("[" * 200_000),
    "list": lambda path: path.write_text("[]"),
    "folder": folder,
    "recipe is a list": signed(lambda result: result[PROVENANCE_KEY].update(recipe=[])),
    "recipe is nothing": signed(lambda result: result[PROVENANCE_KEY].update(recipe=None)),
    "fingerprint is a list": signed(lambda result: result[PROVENANCE_KEY].update(fingerprint=[])),
    "inputs is a number": signed(lambda result: result[PROVENANCE_KEY].update(inputs=3)),
    "no time": signed(lambda result: result[PROVENANCE_KEY].update(wall_s="long")),
    "no value": signed(lambda result: result.pop("lmc")),
    "value is a text": signed(lambda result: result.update(lmc="low")),
}


def test_one_odd_result_is_damaged_and_hides_no_other(own: Checkout) -> None:
    """Whatever the damage, `adopt`, `status`, `plan`, `explain` and `verify` continue, and tables are refused."""
    sound = (own.path / LMC).read_bytes()
    with inside(own):
        settings = tiny()
        for name, spoil in ODD.items():
            spoil(LMC)
            found = [finding for finding in judge(study_of(settings)) if not finding.done]
            assert [(each.product.outputs[0], each.verdict) for each in found] == [(LMC, Verdict.DAMAGED)], name
            assert str(LMC) in found[0].reason, name
            assert (NAME, "lmc", 3, 4) in status.look(settings).counts, name
            assert str(LMC) in explain.render(explain.explain(settings)), name
            (row,) = [row for row in make(settings, ["lmc"], None).rows if row.stage == "lmc"]
            assert (row.done, row.stale) == (3, 1), name
            assert [each.file for each in verifying.verify(settings).problems] == [str(LMC), str(TABLES)], name
            assert "1 damaged" in adopting.render(adopting.adopt(settings, FILES, dry_run=True), dry_run=True), name
            with pytest.raises(UserError, match=rf"1 results of tiny \(1 lmc\) .*{LMC}: damaged, "):
                tables.write(study_of(settings))
            shutil.rmtree(LMC) if LMC.is_dir() else LMC.unlink()
            LMC.write_bytes(sound)
        assert all(finding.done for finding in judge(study_of(settings)))


@pytest.mark.parametrize("spoil", ["cut", "folder", "no value"])
def test_a_damaged_result_is_set_aside_and_computed_anew(study_folder, caplog, spoil):
    settings = config(study_folder)
    path = products(settings, "lmc")[0].outputs[0]
    before = json.loads(path.read_text())["lmc"]
    ODD[spoil](path)
    assert run(settings, "lmc") == Outcome(1, 3)
    assert json.loads(path.read_text())["lmc"] == before
    assert os.path.lexists(f"{path}{damage.SUFFIX}")
    assert f"{path}{damage.SUFFIX}" in caplog.text


def test_what_cannot_be_read_now_is_not_damaged(study_folder, monkeypatch):
    """Too many open files, missing rights: the result stays, and the job stops."""
    settings = config(study_folder)
    paths = list(products(settings, "retrain")[0].outputs)

    def no_descriptor(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for path in paths:
        with monkeypatch.context() as patched:
            if path.suffix == ".json":
                patched.setattr(Path, "read_text", no_descriptor)
            else:
                patched.setattr("builtins.open", no_descriptor)
            with pytest.raises(UserError, match=rf"{path.name} cannot be read: Too many open files"):
                damage.found([path])
    assert damage.found(paths) == []


@pytest.mark.parametrize(("stage", "role", "before"), [("prune", "dense", "dense"), ("lmc", "first", "retrain")])
def test_a_flipped_bit_in_an_input_is_mended_by_the_next_run(study_folder, stage, role, before):
    settings = config(study_folder)
    expected = digests(settings, before)
    path = products(settings, stage)[0].inputs[role]
    products(settings, stage)[0].outputs[0].unlink()
    flip(path)
    with pytest.raises(UserError, match=f"{path} is damaged: .* it is kept as {path}{damage.SUFFIX}: run again"):
        run(settings, stage)
    assert not path.exists()
    assert run(settings, before).computed == 1
    assert digests(settings, before) == expected
    assert run(settings, stage).computed == 1


def test_what_was_found_damaged_is_read_before_it_is_kept(study_folder):
    """`adopt` and `distrust` set the time back; by metadata alone the file would look intact."""
    settings = config(study_folder)
    expected = digests(settings, "retrain")
    path = products(settings, "retrain")[0].outputs[-1]
    flip(path)
    assert run(settings, "retrain") == Outcome(0, 8), "nothing has read it"
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert run(settings, "retrain") == Outcome(1, 7)
    assert digests(settings, "retrain") == expected


def test_weights_and_json_of_two_runs_are_never_accepted(study_folder):
    """With the right fingerprint: on a GPU two runs of one member differ."""
    settings = config(study_folder)
    product = products(settings, "retrain")[0]
    weights, expected = product.outputs[-1], digests(settings, "retrain")
    arrays = read_arrays(weights)
    arrays["fc.bias"] = arrays["fc.bias"] + 1
    write_arrays(weights, arrays, {"fingerprint": product.fingerprint})
    assert product.stored() is None and not product.done
    (found,) = [each for each in judge(small_study(settings), ["retrain"]) if each.verdict is Verdict.DAMAGED]
    assert "not of the same run" in found.reason
    with pytest.raises(UserError, match="retrained"):
        tables.write(small_study(settings))
    assert run(settings, "retrain") == Outcome(1, 7)
    assert digests(settings, "retrain") == expected
    assert Path(f"{weights}{damage.SUFFIX}").exists()


def test_nothing_outside_is_touched_through_links(own: Checkout, tmp_path: Path) -> None:
    outside = [tmp_path / name for name in ("a", "b", "c")]
    for path in outside[:2]:
        path.write_text("mine")
        os.utime(path, (1_700_000_000, 1_700_000_000))
    cell = own.path / LMC.parents[1]
    for path, target in zip(
        ("pair1-2/lmc.json", "replica1/retrained.safetensors", "pruned.json"), outside, strict=True
    ):
        (cell / path).unlink()
        (cell / path).symlink_to(target)
    with inside(own):
        adopting.adopt(tiny(), FILES)
        finished = CliRunner().invoke(main, ["run-stage", "prune", *OPTIONS])
    assert finished.exit_code == 0, finished.output
    assert [path.stat().st_mtime for path in outside[:2]] == [1_700_000_000] * 2
    assert [path.read_text() for path in outside[:2]] == ["mine"] * 2
    assert not outside[2].exists()


def test_verify_reads_everything_and_changes_nothing(own: Checkout) -> None:
    with inside(own):
        whole = verifying.verify(tiny())
        assert whole.problems == [] and whole.read > 22
        good = CliRunner().invoke(main, ["verify", *OPTIONS])
        assert good.exit_code == 0 and "no problems" in good.output
        weights = Path("results/tiny/tiny/seed1/epochs004/density010/replica2/retrained.safetensors")
        flip(weights)
        flip(Path("data/digits.safetensors"))
        before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
        bad = CliRunner().invoke(main, ["verify", "--json", *OPTIONS])
        found = {each["file"]: each["verdict"] for each in json.loads(bad.output)["problems"]}
        text = CliRunner().invoke(main, ["verify", *OPTIONS])
        assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    assert bad.exit_code == text.exit_code == 1
    assert found[str(weights.with_suffix(".json"))] == found["data/digits.safetensors"] == "damaged"
    assert f"{weights} is damaged: " in text.output


def test_verify_sees_tables_of_other_results(own: Checkout) -> None:
    with inside(own):
        path = Path("results/tiny/tiny/cells.csv")
        path.write_text(path.read_text().replace("\ntiny,", "\nother,"))
        (problem,) = verifying.verify(tiny()).problems
    assert (problem.file, problem.verdict) == (str(path), "stale")


def test_verify_sees_regimes_that_do_not_follow_from_the_cells(own: Checkout) -> None:
    with inside(own):
        regime_tables.write(study_of(tiny()).folder, study_of(tiny()).thresholds)
        assert verifying.verify(tiny()).problems == []
        path = Path("results/tiny/tiny/regimes.csv")
        path.write_text(path.read_text().replace("\ntiny,", "\nother,"))
        (problem,) = verifying.verify(tiny()).problems
    assert (problem.file, problem.verdict) == (str(path), "stale")


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path):
    """Files of a running writer stay."""
    path = tmp_path / "cells.csv"
    code = (
        "import os, signal, sys; from pathlib import Path; from three_regime.system.files import replacing\n"
        "with replacing(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 1
    with replacing(path) as outer:
        assert [outer] == list(tmp_path.iterdir())
        with replacing(path) as inner:
            assert outer.exists() and inner != outer
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", ["unpack", "prune", "lmc", "cka", "translate"])
def test_no_command_writes_over_what_it_reads(study_folder, command):
    settings = config(study_folder)
    path = products(settings, "retrain")[0].outputs[-1]
    other = products(settings, "retrain")[1].outputs[-1]
    rest = {
        "unpack": [str(path)],
        "prune": [str(path), "--model", "preresnet-8x0.25", "--density", "0.5"],
        "lmc": [str(other), str(path), "--model", "preresnet-8x0.25", "--dataset", "digits", "--data", "."],
        "cka": [str(other), str(path), "--model", "preresnet-8x0.25", "--dataset", "digits", "--data", "."],
        "translate": [str(path), "--source", str(other)],
    }[command]
    before = path.read_bytes()
    ended = CliRunner().invoke(main, [command, *rest, "--out", str(path)])
    assert ended.exit_code == 2 and path.read_bytes() == before
    others = CliRunner().invoke(main, ["unpack", str(other), "--out", str(files(settings, "dense")[-1])])
    assert others.exit_code == 2, "a result of the study that it does not read"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(Damaged, match="cannot be read"):
        read_arrays(tmp_path)
