"""Command line: help, one-sentence errors, and single checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from click.testing import CliRunner

from three_regime import cli
from three_regime.models import families
from three_regime.models.initialisation import initial_weights
from three_regime.pruning.allocation import removed_count
from three_regime.pruning.masks import split_masks
from three_regime.system.files import read_arrays, write_arrays


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run ``python -m three_regime`` in a subprocess."""
    command = [sys.executable, "-m", "three_regime", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def checkpoint(path: Path, model: str, seed: int, channels: int = 3) -> Path:
    """A random network of `model` on disk."""
    network = families.build(model, classes=10, channels=channels, image_size=32)
    write_arrays(path, initial_weights(network, np.random.default_rng(seed)), {})
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("pair")
    return tuple(str(checkpoint(folder / f"{name}.safetensors", "preresnet-8x0.25", seed))
                 for name, seed in (("A", 1), ("B", 2)))  # fmt: skip


@pytest.mark.parametrize("name", sorted(cli.main.commands))
def test_every_command_has_help(name: str) -> None:
    shown = CliRunner().invoke(cli.main, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage:")
    assert cli.main.commands[name].help


def test_help_and_wrong_options_are_no_surprise() -> None:
    for arguments, code in ((("plan", "--help"), 0), (("plan", "--no-such-option"), 2), (("no-such-command",), 2)):
        ended = run(*arguments)
        assert ended.returncode == code
        assert "Traceback" not in ended.stderr
        assert "unexpected error" not in ended.stderr


def test_list_shows_what_is_registered() -> None:
    shown = run("list").stdout
    for name in ("digits", "cifar10", "svhn", "preresnet", "vgg", "densenet", "epochs", "sam_rho", "sgd", "adam"):
        assert name in shown


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("list", {"data_sets", "models", "knobs", "loads", "criteria", "measures", "optimisers"}),
        ("plan", {"rows", "longest_chain_s"}),
        ("explain", {"unprepared", "findings"}),
        ("status", {"running", "counts", "tables"}),
    ],
)
def test_json_for_programs(command: str, keys: set[str]) -> None:
    options = [] if command == "list" else ["--base", f"{ROOT}/config.yaml", "--configfile", f"{ROOT}/config/tiny.yaml"]
    ended = CliRunner().invoke(cli.main, [command, "--json", *options])
    assert ended.exit_code == 0, ended.output
    assert keys <= set(json.loads(ended.stdout))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "--json", "--watch", "5"), "either --json, which prints once, or --watch"),
        (("scorecard", "--template", "new.csv", "--out", "card.md"), "--template names its file itself"),
        (("scorecard", ".", "--knob", "epochs"), "--knob is for a CSV of your own, or for --against"),
        (("scorecard", "--template", "new.csv", "--knob", "epochs"), "--knob is for a CSV of your own"),
        (("scorecard", "--template", "new.csv", "--study", "theirs"), "--study is for CELLS"),
        (("run-stage", "tables", "--seed", "1"), "leave out --seed and --temperature"),
        (("run-stage", "prepare", "--temperature", "10"), "leave out --seed and --temperature"),
    ],
)
def test_options_without_effect_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(cli.main, arguments)
    assert ended.exit_code == 2 and said in " ".join(ended.stderr.split()), ended.output
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("three_regime.cli.runs.time.sleep", interrupted)
    files = ("--base", f"{ROOT}/config.yaml", "--configfile", f"{ROOT}/config/tiny.yaml")
    ended = CliRunner().invoke(cli.main, ["status", "--watch", "5", *files])
    assert ended.exit_code == 0 and "Aborted" not in ended.output, ended.output


def test_plan_for_programs_has_what_its_text_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    command = ["plan", "--device", "cpu", "--base", f"{ROOT}/config.yaml", "--configfile", f"{ROOT}/config/tiny.yaml"]
    found = json.loads(CliRunner().invoke(cli.main, [*command, "--json"]).stdout)
    assert all(row["members"] == row["done"] + row["stale"] + row["missing"] for row in found["rows"])
    for name, total in found["totals"].items():
        if name not in ("cpu_s", "gpu_s"):
            assert total == sum(row[name] for row in found["rows"]) > -1
    assert (found["totals"]["gpu_s"], found["cores"]) == (0, 2)
    assert found["totals"]["cpu_s"] == pytest.approx(sum(row["seconds"] * row["threads"] for row in found["rows"]))
    assert found["wall_s"] == pytest.approx(max(found["longest_chain_s"], found["totals"]["cpu_s"] / 2))


def test_scorecard_runs_the_plugins_it_is_given(tmp_path: Path) -> None:
    """Those that a folder's config.yaml names, as a foreign export's may, are not run."""
    theirs = tmp_path / "theirs"
    (theirs / "warm").mkdir(parents=True)
    (theirs / "config.yaml").write_text("plugins: [warmth.py]\nstudies: {}\n")
    register = "from three_regime.config.knobs import Knob, register\nopen('ran', 'w').close()\n"
    register += "register(Knob('warmth', 'momentum', 'warmth', 'warmth', 1, 'higher', False))\n"
    (theirs / "warmth.py").write_text(register)
    keys = "study,dataset,model,knob,dense_seed,temperature,density,origin,test_error"
    (theirs / "warm" / "cells.csv").write_text(f"{keys}\nwarm,digits,small,warmth,1,0.9,0.5,computed,0.1\n")
    refused = run("scorecard", ".", cwd=theirs)
    assert refused.returncode == 2 and "scorecard --plugin" in refused.stderr
    assert not (theirs / "ran").exists()
    scored = run("scorecard", ".", "--plugin", "warmth.py", cwd=theirs)
    assert scored.returncode == 0, scored.stderr
    assert (theirs / "ran").exists()


def test_prune_by_hand(pair: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "P.safetensors"
    ended = run("prune", pair[0], "--model", "preresnet-8x0.25", "--density", "0.1", "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    weights, masks = split_masks(read_arrays(out))
    before = read_arrays(Path(pair[0]))
    assert len(masks) == 9
    for name, mask in masks.items():
        assert (~mask).sum() == removed_count(mask.size, 0.1)
        np.testing.assert_array_equal(weights[name], np.where(mask, before[name], 0))


def test_lmc_and_cka_by_hand(pair: tuple[str, str], tmp_path: Path, cifar10_batches: Path) -> None:
    common = ("--model", "preresnet-8x0.25", "--dataset", "cifar10", "--data", str(cifar10_batches))
    out = tmp_path / "lmc.json"
    limits = ("--train-images", "200", "--test-images", "100", "--out", str(out))
    assert run("lmc", *pair, *common, *limits).returncode == 0
    result = json.loads(out.read_text())
    assert [len(result[key]) for key in ("t", "train_error", "train_nll", "test_error", "test_nll")] == [11] * 5
    assert all(0 <= error <= 1 for error in result["train_error"] + result["test_error"])
    ends = (result["train_error"][0] + result["train_error"][-1]) / 2
    assert abs(result["lmc"]) == pytest.approx(max(abs(ends - error) for error in result["train_error"]))
    out = tmp_path / "cka.json"
    assert run("cka", *pair, *common, "--images", "300", "--out", str(out)).returncode == 0
    result = json.loads(out.read_text())
    assert result["images"] == 300
    assert 0 < result["logits"] < 1
    assert 0 < result["softmax"] < 1


def test_lmc_and_cka_refuse_nan_weights_and_absent_images(tmp_path: Path) -> None:
    """All but the last before anything is computed."""
    first = checkpoint(tmp_path / "A.safetensors", "preresnet-8x0.25", 1, channels=1)
    arrays, spoilt = read_arrays(first), tmp_path / "spoilt.safetensors"
    write_arrays(spoilt, {**arrays, "fc.bias": np.full_like(arrays["fc.bias"], np.nan)}, {})
    huge = tmp_path / "huge.safetensors"
    write_arrays(huge, {**arrays, "fc.weight": np.full_like(arrays["fc.weight"], 3e38)}, {})
    few = ("--train-images", 64, "--test-images", 32, "--points", 3)
    out = tmp_path / "out.json"
    common = ("--model", "preresnet-8x0.25", "--dataset", "digits", "--data", str(tmp_path), "--out", str(out))
    for arguments, message in (
        (("lmc", first, spoilt), f"{spoilt} holds a non-finite number in fc.bias"),
        (("cka", first, spoilt), f"{spoilt} holds a non-finite number in fc.bias"),
        (("lmc", first, first, "--train-images", 60000), "--train-images 60000: there are only "),
        (("lmc", first, first, "--test-images", 10001), "--test-images 10001: there are only "),
        (("cka", first, first, "--images", 60000), "60000 images were requested, but there are "),
        (("lmc", first, huge, *few), f"a loss on the line from {first} to {huge} is not a finite number"),
    ):
        ended = CliRunner().invoke(cli.main, [*map(str, arguments), *common])
        assert ended.exit_code == 2, arguments
        assert message in ended.stderr
        assert not out.exists()


def test_refusals_are_one_sentence_and_write_nothing(pair: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    model = ("--model", "preresnet-8x0.25")
    data = ("--data", str(tmp_path), "--out", str(out))
    (tmp_path / "half.safetensors").write_bytes(Path(pair[0]).read_bytes()[:5000])
    half = str(tmp_path / "half.safetensors")
    for arguments, message in (
        (("prune", pair[0], *model, "--density", "1.2", "--out", str(out)), "density must lie in (0, 1], not 1.2"),
        (("prune", pair[0], "--model", "preresnet-14", "--density", ".1", "--out", str(out)), "another architecture"),
        (("prune", half, *model, "--density", ".1", "--out", str(out)), "half.safetensors"),
        (("prune", "absent.pt", *model, "--density", ".1", "--out", str(out)), "absent.pt"),
        (("lmc", *pair, *model, "--dataset", "cifar11", *data), "did you mean 'cifar10'?"),
        (("lmc", *pair, *model, "--dataset", "cifar10", *data), "data_batch_1 is missing"),
        (("cka", *pair, *model, "--dataset", "digits", *data), "another architecture"),
        (("run-stage", "dense", "--configfile", "absent.yaml"), "absent.yaml does not exist"),
        (("run-stage", "lmc", "--configfile", "config/tiny.yaml", "--seed", "9"), "9"),
    ):
        ended = run(*arguments)
        assert ended.returncode == 2, arguments
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not out.exists()
