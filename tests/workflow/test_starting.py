"""Before a run: missing presets, the confirmation of long runs, other working folders, the list of presets."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from checkout import ROOT, Checkout
from finished import copied

from three_regime.config import load
from three_regime.errors import UserError
from three_regime.planning.plan import make
from three_regime.planning.plan_table import worked
from three_regime.planning.presets import about, listing
from three_regime.planning.pricing import RATES, read_rates
from three_regime.workflow import running, starting
from three_regime.workflow.arguments import check_configfiles, computes, joined, located

WORKFLOW = [sys.executable, "-m", "three_regime", "workflow"]


def on_a_terminal(*arguments: str, answer: str, **variables: str) -> tuple[int, str]:
    """Return exit code and output of an interactive command, with its questions answered."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "three_regime", *arguments], cwd=ROOT, env={**os.environ, **variables}, stdin=theirs,
        stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    told = b""
    while True:
        try:
            told += (part := os.read(ours, 4096))
        except OSError:  # the terminal is closed
            break
        if not part:
            break
    os.close(ours)
    return process.wait(60), told.decode()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--cores", "1"), ("--config", "threads=1", "--", "figures")])
def test_hours_of_work_are_asked_for_on_a_terminal(arguments: tuple[str, ...]) -> None:
    code, told = on_a_terminal("workflow", "--configfile", "config/figure2-slice.yaml", *arguments, answer="n")
    assert code == 2
    assert told.count("Start?") == 1
    assert re.search(r"about \d{3} CPU core hours", told)
    assert "nothing was started" in told


@pytest.mark.parametrize("answer", ["y", "YES", "n", ""])
def test_yes_goes_on_and_all_else_does_not(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("YES", raising=False)
    terminal = type("Terminal", (), {"isatty": lambda self: True, "readline": lambda self: f"{answer}\n"})
    monkeypatch.setattr(sys, "stdin", terminal())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    started = answer.lower() in ("y", "yes")
    arguments = ["--configfile", "config/figure2-slice.yaml"]
    if started:
        starting.ask(arguments)
    else:
        with pytest.raises(UserError, match="nothing was started"):
            starting.ask(arguments)
    monkeypatch.setattr(starting, "price", lambda *_: pytest.fail("priced"))
    starting.ask([*arguments, "--dry-run"])
    monkeypatch.setenv("YES", "1")
    starting.ask(arguments)
    monkeypatch.delenv("YES")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    starting.ask(arguments)


@pytest.mark.parametrize(
    ("targets", "priced"),
    [
        ([], True),
        (["figures"], True),
        (["results/cifar10-preresnet20-epochs/figures/phase_diagram.pdf"], True),
        (["cifar10_preresnet20_epochs_retrained"], True),
        (["dense"], False),
        (["published"], False),
        (["results/cifar10-preresnet20-epochs/seed1/epochs040/dense.json"], False),
    ],
)
def test_the_work_for_targets_is_priced(monkeypatch: pytest.MonkeyPatch, targets: list[str], priced: bool) -> None:
    monkeypatch.chdir(ROOT)
    config = load([ROOT / "config.yaml", ROOT / "config/figure2-slice.yaml"])
    assert bool(starting.price(config, targets)) == priced


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("--cores 2 -- tables", True), ("-j2 -k", True), ("-n", False), ("-np", False), ("--dry-run", False),
     ("--report=a.zip", False), ("--list-rules", False), ("--unlock", False), ("--forcerun cells_tiny", True),
     ("-drun data", True), ("--report-after-run", True)],
)  # fmt: skip
def test_what_runs_no_job_is_known(arguments: str, expected: bool) -> None:
    assert computes(arguments.split()) == expected


def test_a_missing_preset_is_one_sentence_with_those_that_exist() -> None:
    for options in (["--configfile", "config/nosuch.yaml"], ["--configfile=config/nosuch.yaml", "--config", "a=1"]):
        ended = subprocess.run([*WORKFLOW, *options], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert "config file config/nosuch.yaml does not exist" in line
        assert all(path.stem in line for path in (ROOT / "config").glob("*.yaml"))
    with pytest.raises(UserError, match="did you mean 'figure2'"):
        check_configfiles(["--configfile", str(ROOT / "config/figur2.yaml")])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("figure", "unknown target 'figure'; did you mean 'figures'?; use all, dense, "),
        ("tiny-retrained", "did you mean 'tiny_retrained'?"),
        ("config/tiny.yaml", "give it as --configfile config/tiny.yaml"),
        ("tables", ""),
        ("results/a/figure.pdf", ""),
    ],
)
def test_a_misspelt_target_is_told_the_nearest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    Path("config/tiny.yaml").touch()
    names = ("all", "dense", "tables", "figures", "tiny_retrained")
    workflow = SimpleNamespace(rules=[SimpleNamespace(name=name) for name in names])
    arguments = ["--cores", "1", "--configfile", "config/tiny.yaml", "--", target]
    with pytest.raises(UserError, match=re.escape(said)) if said else contextlib.nullcontext():
        running.check_targets(workflow, arguments, ["all", "dense"])


def test_a_target_taken_for_a_value_is_told_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="retrained does not exist.*targets come before --configfile, or after `--`"):
        check_configfiles(["--configfile", "config/figure2.yaml", "retrained"])
    with pytest.raises(UserError, match="KEY=VALUE, got data; targets come before --config, or after `--`"):
        check_configfiles(["--config", "threads=1", "data"])


@pytest.mark.parametrize("directory", [("--directory", "X"), ("-d", "X"), ("--directory=X",)])
def test_config_files_count_from_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["tables", *directory, "--configfile", "a.yaml", "/b.yaml", "--cores", "2", "--configfile=c.yaml"]
    found, folder = located(given)
    assert folder == Path("X")
    wanted = ["tables", *directory, "--configfile", f"{tmp_path}/a.yaml", "/b.yaml", "--cores", "2"]
    assert found == ["--snakefile", str(ROOT / "Snakefile"), *wanted, f"--configfile={tmp_path}/c.yaml"]
    monkeypatch.chdir(ROOT)
    assert located(["--configfile", "a.yaml", "-n"]) == (["--configfile", "a.yaml", "-n"], Path())
    profile = "--workflow-profile", "profiles/slurm"
    found, _ = located([*profile, *directory])
    assert str(ROOT / profile[1]) in found


@pytest.mark.parametrize("profile", ["slurm", "slurm-no-accounting", "pbs", "kubernetes"])
def test_files_of_a_profile_are_found_from_any_folder(profile: str) -> None:
    """Snakemake takes a value for a file of the profile's folder if there is one; a shell expands the variable."""
    folder = ROOT / "profiles" / profile
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    named = re.findall(r"\S+\.(?:sh|yaml)", " ".join(map(str, settings.values())))
    assert named
    for path in named:
        in_checkout = path.strip('"').removeprefix("$THREE_REGIME_CHECKOUT/")
        assert (ROOT / in_checkout if in_checkout != path.strip('"') else folder / path).is_file(), path


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert joined(["--directory=~/x", "-d", "~/y", "~"]) == [f"--directory={tmp_path}/x", "-d", f"{tmp_path}/y", "~"]


@pytest.mark.slow
def test_a_preset_is_run_in_another_folder(finished_tiny: Checkout, tmp_path: Path) -> None:
    """From the checkout into a folder, and from that folder itself, whose copied results are adopted first."""
    checkout = copied(finished_tiny, tmp_path / "checkout")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for part in ("results", "data"):
        (checkout.path / part).rename(elsewhere / part)
    adopted = checkout.run("--configfile", "config/tiny.yaml", "--directory", str(elsewhere), "--", "figures")
    assert "adopting them" in adopted
    assert (elsewhere / "results/tiny/tiny/figures/phase_diagram.pdf").exists()
    assert not (checkout.path / "results").exists()
    published = [str(checkout.path / "config/reference.yaml"), "-n"]
    again = Checkout(elsewhere).command("--configfile", *published)
    ended = subprocess.run(
        again, cwd=elsewhere, env=checkout.environment(), capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert "published" in ended.stdout, "its input, the digitised figure, was found in the checkout"


# The list of presets


def test_the_committed_list_of_presets_is_that_of_the_command() -> None:
    committed = (ROOT / "benchmarks/plans/presets.txt").read_text()
    overlays = sorted((ROOT / "config").glob("*.yaml"))
    listed = {line.split()[0].rstrip("*"): line for line in committed.splitlines() if re.match("[a-z]", line)}
    assert set(listed) == {path.stem for path in overlays}
    for path in overlays:
        assert listed[path.stem].endswith(about(path))


def test_a_preset_costs_what_the_plan_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = listing(ROOT / "config.yaml", [ROOT / "config/figure2-slice.yaml"], read_rates(RATES, "cpu"))
    (row,) = (line for line in table.splitlines() if line.startswith("figure2-slice"))
    config = load([ROOT / "config.yaml", ROOT / "config/figure2-slice.yaml"])
    _, core_s = worked(make(config, [], read_rates(RATES, "cpu")))
    assert row.split()[1] == f"{core_s / 3600:,.0f}" and row.split()[3] == "MB"
    unknown = listing(ROOT / "config.yaml", [ROOT / "config/tiny.yaml"], None)
    assert re.search(r"^tiny +\? +\? ", unknown, flags=re.MULTILINE)


# What is read no further


@pytest.mark.parametrize("command", ["list", "schema", "plan", "status", "explain"])
def test_a_command_ends_quietly_when_nobody_reads_on(command: str) -> None:
    configured = command not in ("list", "schema")
    words = [sys.executable, "-m", "three_regime", command, *(["--configfile", "config/tiny.yaml"] * configured)]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(words, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert ended.stderr == ""
    assert ended.returncode == 1
