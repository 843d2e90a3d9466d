"""Profiles: same plan under each, resource requests, and batch systems other than SLURM with stand-in commands."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from checkout import ROOT, Checkout
from finished import OPTIONS, copied
from snakemake.cli import parse_args
from snakemake_executor_plugin_slurm import ExecutorSettings

from three_regime.config import Config, load, merge, resolve
from three_regime.planning import pricing
from three_regime.study.grid import Study, study_named
from three_regime.study.stages import STAGES
from three_regime.workflow import job_resources, running
from three_regime.workflow.job_resources import first_runtime

PROFILES = sorted(path.parent.name for path in (ROOT / "profiles").glob("*/config.yaml"))
ON_SLURM = ("slurm", "slurm-no-accounting")
GENERIC = ("kubernetes", "pbs")
PLUGIN = "snakemake-executor-plugin-cluster-generic"


def settings(profile: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())


# The profiles agree


def test_these_are_all_the_profiles() -> None:
    assert {"default", *ON_SLURM, *GENERIC} == set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_agree_on_what_makes_a_job_run_again(profile: str) -> None:
    assert settings(profile)["rerun-triggers"] == ["mtime", "params", "input"]
    assert settings(profile)["rerun-incomplete"] is True
    assert settings(profile)["keep-going"] is True


@pytest.mark.parametrize("profile", [*ON_SLURM, *GENERIC])
def test_a_cluster_retries_and_waits_for_its_file_system(profile: str) -> None:
    assert settings(profile)["retries"] >= 2
    assert settings(profile)["latency-wait"] >= 30
    assert {"gpu=0", "mem_mb=4000 * attempt", "runtime=30 * attempt"} <= set(settings(profile)["default-resources"])


def test_rules_leave_retries_to_the_profiles() -> None:
    """As a directive, retries would also apply inside the allocation."""
    assert "retries" not in settings("default")
    for path in (ROOT / "rules").glob("*.smk"):
        assert not re.search(r"^\s*retries:", path.read_text(), flags=re.MULTILINE), path


def test_what_takes_seconds_does_not_wait_in_a_queue() -> None:
    for name in ("analysis", "figures"):
        text = (ROOT / f"rules/{name}.smk").read_text()
        assert text.count("localrule: True") == len(re.findall(r"^\s*rule\b.*:$", text, flags=re.MULTILINE)), name


@pytest.mark.parametrize("profile", ON_SLURM)
def test_slurm_settings_are_those_of_the_plugin(profile: str) -> None:
    known = {f"slurm-{field.name.replace('_', '-')}" for field in dataclasses.fields(ExecutorSettings)}
    used = {key for key in settings(profile) if key.startswith("slurm-")}
    assert used and used <= known
    assert settings(profile)["slurm-requeue"] is True
    assert partitions_of(profile) == ROOT / "profiles/slurm/partitions.yaml"


def partitions_of(profile: str) -> Path:
    """The file as Snakemake finds it: in the profile's folder."""
    return (ROOT / "profiles" / profile / settings(profile)["slurm-partition-config"]).resolve(strict=True)


def test_without_accounting_only_the_account_differs() -> None:
    first, second = (settings(profile) for profile in ON_SLURM)
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    assert differing == {"slurm-no-account", "slurm-partition-config"}
    assert partitions_of(ON_SLURM[0]) == partitions_of(ON_SLURM[1])
    assert second["slurm-status-command"] == "squeue"


@pytest.mark.parametrize("profile", ON_SLURM)
def test_an_array_fits_on_a_command_line(profile: str) -> None:
    """1.7 KB a task were measured; Linux takes 128 KB in one argument."""
    assert settings(profile)["slurm-array-jobs"] == "all"
    assert 1.7 * settings(profile)["slurm-array-limit"] < 128


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin of the generic profiles, installed beside the environment as their first lines say."""
    folder = tmp_path_factory.mktemp("plugin")
    version = re.search(rf"pip install {PLUGIN}==(\S+)", (ROOT / "profiles/pbs/config.yaml").read_text())[1]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    try:
        subprocess.run([*command, f"{PLUGIN}=={version}"], check=True, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PLUGIN} could not be installed within three minutes")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{PLUGIN} could not be installed: {error.stderr[-300:]}")
    return folder


def under(profile: str, checkout: Checkout, *arguments: str, path: str = "", **more: str) -> str:
    """Run the workflow under a profile; return its output."""
    command = [sys.executable, "-m", "three_regime", "workflow", "--workflow-profile", f"profiles/{profile}"]
    environment = {**checkout.environment(), **more}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment["PYTHONPATH"], path]))
    ended = subprocess.run(
        [*command, *arguments], cwd=checkout.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-5000:]
    return ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["default", *ON_SLURM])
def test_after_a_run_no_profile_finds_anything_to_do(complete_tiny: Checkout, profile: str) -> None:
    assert "Nothing to be done" in under(profile, complete_tiny, "--dry-run", *OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("profile", GENERIC)
def test_after_a_run_neither_does_a_generic_profile(complete_tiny: Checkout, plugin: Path, profile: str) -> None:
    assert "Nothing to be done" in under(profile, complete_tiny, "--dry-run", *OPTIONS, path=str(plugin))


def make(*arguments: str) -> str:
    """The last command that make would run."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    planned = subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60
    )
    assert planned.returncode == 0, planned.stderr
    return planned.stdout.splitlines()[-1]


def test_make_slurm_is_the_whole_paper_unless_a_preset_is_named() -> None:
    assert make("slurm").split()[-4:] == ["workflow", "--workflow-profile", '"profiles/slurm"', "--"]
    named = make("slurm", "PRESET=figure2", "PROFILE=slurm-no-accounting", "TARGETS=figures")
    assert '"profiles/slurm-no-accounting" --configfile "config/figure2.yaml"' in named
    assert named.endswith("-- figures")


@pytest.mark.parametrize("target", ["paper", "run", "slurm", "dryrun"])
def test_make_keeps_options_and_targets_apart(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some options of Snakemake take all words that follow."""
    monkeypatch.chdir(ROOT)
    command = shlex.split(make(target, "ARGS=--resources gpu=2", "TARGETS=data figures"))
    _, parsed = parse_args(command[command.index("workflow") + 1 :])
    assert parsed.targets == ["data", "figures"]
    assert parsed.resources["gpu"] == 2
    assert bool(parsed.dryrun) == (target == "dryrun")


# What a job asks for


def config(**changes: object) -> Config:
    """The whole paper with keys replaced."""
    return resolve(merge(load([ROOT / "config.yaml"]).model_dump(mode="json"), changes))


def figure2(settings: Config) -> Study:
    return study_named(settings, "cifar10-preresnet20-epochs")


@pytest.fixture
def rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a file of rates; no others are known."""
    monkeypatch.setattr(pricing, "RATES", tmp_path)
    job_resources._rates.cache_clear()

    def write(device: str, images_per_s: float, threads: int = 1) -> None:
        names = ("train_images_per_s", "evaluate_images_per_s", "reestimate_images_per_s")
        model = {**dict.fromkeys(names, images_per_s), "parameters": 272282}
        text = json.dumps({"device": device, "threads": threads, "models": {"preresnet-20": model}})
        (tmp_path / f"{device}.json").write_text(text)
        job_resources._rates.cache_clear()

    yield write
    job_resources._rates.cache_clear()


def asked(settings: Config, stage: str, attempt: int, **wildcards: str) -> dict[str, int]:
    resources = job_resources.job_resources(settings, figure2(settings), stage)
    return {name: value(wildcards, attempt=attempt) if callable(value) else value for name, value in resources.items()}


def test_memory_and_run_time_grow_with_the_attempt(rates) -> None:
    ours = config()
    asks = [asked(ours, "lmc", attempt, temperature="epochs040") for attempt in (1, 2, 3)]
    assert asks == [{"gpu": 1, "mem_mb": 8000 * times, "runtime": 240 * times} for times in (1, 2, 3)]
    assert asked(ours, "dense", 2) == {"gpu": 1, "mem_mb": 16000, "runtime": 240}


def test_no_gpu_is_asked_for_where_none_is_used(rates) -> None:
    """On a cluster with ``device: cpu``, and on this machine without one; CPU rates then decide the run time."""
    assert {asked(config(device="cpu"), stage, 1)["gpu"] for stage in STAGES} == {0}
    absent = job_resources.job_resources(config(), figure2(config()), "retrain", without_gpu=lambda: True)
    assert absent["gpu"]({}, attempt=1) == 0
    rates("cpu", 1000, threads=2)
    ours = config(device="cpu", max_runtime=10**6)
    expected = first_runtime(figure2(ours), "lmc", 40, None, ours.threads, gpu=0)
    assert asked(ours, "lmc", 1, temperature="epochs040")["runtime"] == expected > 240


def started(local: bool = True, cores: int = 8, nodes: int | None = None, **limits: int) -> SimpleNamespace:
    """What a run's Snakemake says of itself."""
    settings = SimpleNamespace(cores=cores, nodes=nodes, resources=limits)
    return SimpleNamespace(is_main_process=True, local_exec=local, resource_settings=settings)


@pytest.mark.parametrize(
    ("visible", "device", "absent", "slots"),
    [(True, "auto", False, 1), (False, "auto", True, 4), (False, "cuda", False, 1), (True, "cpu", False, 4)],
)
def test_jobs_without_a_gpu_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch, visible: bool, device: str, absent: bool, slots: int
) -> None:
    monkeypatch.setattr(running, "_visible_gpus", lambda: visible)
    ours = config(device=device, threads=2)
    assert running.without_gpu(started(), ours) == absent
    assert not running.without_gpu(started(local=False), ours), "the nodes of a cluster may have one"
    assert running.slots(started(gpu=1), ours) == slots
    assert running.slots(started(nodes=100), ours) == 100


def test_snakemake_starts_jobs_without_a_gpu_together(tmp_path: Path) -> None:
    """Through Snakemake itself: the limit of the profile leaves one job with a GPU, and all without."""
    (tmp_path / "Snakefile").write_text(
        "from types import SimpleNamespace\n"
        "from three_regime.workflow import running\n"
        "running._visible_gpus = lambda: config['visible'] == 'yes'\n"
        "own = SimpleNamespace(device='auto')\n"
        "rule all:\n    input: ['1', '2', '3']\n"
        "rule job:\n    output: '{n}'\n"
        "    resources: gpu=lambda wildcards, attempt: 0 if running.without_gpu(workflow, own) else 1\n"
        "    shell: 'touch {output}'\n"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "3", "--resources", "gpu=1", "--config"]
    for visible, at_once in (("yes", 1), ("no", 3)):
        ended = subprocess.run([*command, f"visible={visible}", "-F"], cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert f"Execute {at_once} jobs" in ended.stderr


def test_no_job_asks_for_more_than_the_longest_time(rates) -> None:
    assert [asked(config(), "retrain", attempt, temperature="epochs040")["runtime"] for attempt in (1, 2, 3)] == [
        1440,
        2880,
        2880,
    ]
    assert asked(config(max_runtime=60), "retrain", 1, temperature="epochs040")["runtime"] == 60


def test_measured_rates_decide_the_run_time_of_a_pack(rates) -> None:
    """27 retrainings of 160 epochs of 50,000 images, each epoch evaluated on 10,000, both splits at the end."""
    rates("cuda", 100_000)
    images = 27 * (160 * 60_000 + 60_000)
    minutes = job_resources.MARGIN * (images / 100_000 + pricing.OTHER_START_S) / 60
    runtime = asked(config(), "retrain", 1, temperature="epochs040")["runtime"]
    assert minutes <= runtime < minutes + job_resources.STEP_MIN
    assert runtime % job_resources.STEP_MIN == 0
    rates("cuda", 50_000)
    assert asked(config(), "retrain", 1, temperature="epochs040")["runtime"] == pytest.approx(2 * runtime, abs=10)


def test_a_smaller_pack_asks_for_less(rates) -> None:
    rates("cuda", 100_000)
    name = "cifar10-preresnet20-epochs"
    cell = config(studies={name: {"pack": ["replica"]}})
    whole, part = (
        asked(ours, "retrain", 1, **wildcards)["runtime"]
        for ours, wildcards in (
            (config(), {"temperature": "epochs040"}),
            (cell, {"temperature": "epochs040", "density": "density005"}),
        )
    )
    assert part < whole / 5


def test_rates_of_another_kind_of_device_say_nothing(rates) -> None:
    rates("cpu", 1e9)
    assert asked(config(), "retrain", 1, temperature="epochs040")["runtime"] == 1440


def test_rates_of_images_say_nothing_of_translation(rates) -> None:
    rates("cpu", 1e9)
    ours = load([ROOT / "config.yaml", ROOT / "config/tiny-translation.yaml"])
    study = study_named(ours, "tiny-translation")
    assert first_runtime(study, "lmc", study.temperatures[0], None, 1) == study.config.resources.lmc.runtime


def test_cpu_rates_count_without_a_gpu_and_by_threads(rates) -> None:
    rates("cpu", 1000, threads=2)
    name = "cifar10-preresnet20-epochs"
    ours = config(studies={name: {"resources": {"lmc": {"gpu": 0}}}}, max_runtime=10**6)
    two, one = (first_runtime(figure2(ours), "lmc", 40, None, threads) for threads in (2, 1))
    assert two > 240
    assert one == pytest.approx(2 * two, rel=0.01)


# Batch systems by their commands: what stands in for them runs each job on this machine and tells its state. The first
# job dies without having done anything, as one does whose node is lost: nobody writes its exit code.

QSUB = """#!/bin/sh
echo "$@" >> "$STANDIN/asked"
number=$(wc -l < "$STANDIN/asked").server
cat > "$STANDIN/$number.sh"
case $number in
  1.server) touch "$STANDIN/$number.ended" ;;
  *) (sh "$STANDIN/$number.sh"; touch "$STANDIN/$number.ended") > "$STANDIN/$number.out" 2>&1 & ;;
esac
echo "$number"
"""

QSTAT = """#!/bin/sh
for job; do :; done
if [ -e "$STANDIN/$job.ended" ]; then
  echo "qstat: Unknown Job Id $job" >&2
  exit 153
fi
printf 'Job Id: %s\\n    job_state = R\\n' "$job"
"""

KUBECTL = """#!/bin/sh
case $1 in
  create)
    number=$(ls "$STANDIN" | grep -c yaml || true)
    cat > "$STANDIN/$number.yaml"
    echo asked >> "$STANDIN/asked"
    command='^ *command: .sh, "\\(.*\\)", "\\(.*\\)".$'
    wrapper=$(sed -n "s/$command/\\1/p" "$STANDIN/$number.yaml")
    script=$(sed -n "s/$command/\\2/p" "$STANDIN/$number.yaml")
    case $number in
      0) echo 137 > "$STANDIN/$number.code" ;;
      *) (sh "$wrapper" "$script"; code=$?; echo "$code" > "$STANDIN/$number.code") > "$STANDIN/$number.out" 2>&1 & ;;
    esac
    echo "job.batch/$number" ;;
  get)
    number=$(basename "$4")
    [ -e "$STANDIN/$number.code" ] || exit 0
    if [ "$(cat "$STANDIN/$number.code")" = 0 ]; then echo 'SuccessCriteriaMet Complete'; else echo Failed; fi ;;
esac
"""


@pytest.fixture
def standin(tmp_path: Path) -> Path:
    """A folder of commands that stand in for those of PBS and Kubernetes."""
    folder = tmp_path / "stand in"
    folder.mkdir()
    for name, text in (("qsub", QSUB), ("qstat", QSTAT), ("kubectl", KUBECTL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("profile", GENERIC)
def test_a_generic_batch_system_runs_jobs_and_lost_ones_again(
    complete_tiny: Checkout, plugin: Path, standin: Path, tmp_path: Path, profile: str
) -> None:
    checkout = copied(complete_tiny, tmp_path / "checkout")
    lost = Path("results/tiny/tiny/seed1/epochs004/density010/pair1-2/cka.json")
    before = json.loads((checkout.path / lost).read_text())
    (checkout.path / lost).unlink()
    path = {"PATH": f"{standin}{os.pathsep}{os.environ['PATH']}", "STANDIN": str(standin), "CODE_WAIT_S": "1"}
    output = under(profile, checkout, str(lost), *OPTIONS, path=str(plugin), **path)
    assert "Trying to restart job" in output
    after = json.loads((checkout.path / lost).read_text())
    assert {key: value for key, value in after.items() if key != "provenance"} == {
        key: value for key, value in before.items() if key != "provenance"
    }
    if profile == "pbs":
        first, second = (standin / "asked").read_text().splitlines()
        assert "-l select=1:ncpus=1:ngpus=0:mem=1000mb -l walltime=5:00" in first
        assert "mem=2000mb -l walltime=10:00" in second
    else:
        first, second = (yaml.safe_load((standin / f"{number}.yaml").read_text()) for number in (0, 1))
        pods = [each["spec"]["template"]["spec"] for each in (first, second)]
        assert [pod["activeDeadlineSeconds"] for pod in pods] == [300, 600]
        assert not any("activeDeadlineSeconds" in each["spec"] for each in (first, second)), "the queue would count"
        resources = pods[1]["containers"][0]["resources"]
        assert resources == {
            "requests": {"cpu": "1", "memory": "2000M"},
            "limits": {"memory": "2000M", "nvidia.com/gpu": "0"},
        }


@pytest.mark.parametrize(
    ("profile", "command", "says", "code", "state"),
    [
        ("pbs", "qstat", "    job_state = F\n    Exit_status = 271", 0, "failed"),
        ("pbs", "qstat", "    job_state = C", 0, "failed"),
        ("pbs", "qstat", "    job_state = Q", 0, "running"),
        ("pbs", "qstat", "    job_state = R", 0, "running"),
        ("pbs", "qstat", "qstat: Unknown Job Id 12.server", 153, "failed"),
        (
            "pbs",
            "qstat",
            "qstat: 12.server Job has finished, use -x or -H to obtain historical job information",
            35,
            "failed",
        ),
        ("pbs", "qstat", "Following jobs do not exist: 12", 1, "failed"),
        ("pbs", "qstat", "qstat: cannot connect to server server (errno=15010)", 1, "running"),
        ("kubernetes", "kubectl", "Complete", 0, "success"),
        ("kubernetes", "kubectl", "FailureTarget Failed", 0, "failed"),
        ("kubernetes", "kubectl", "", 0, "running"),
        ("kubernetes", "kubectl", "Error from server (NotFound): jobs not found", 1, "failed"),
        ("kubernetes", "kubectl", "Unable to connect to the server", 1, "running"),
    ],
)
def test_the_state_of_a_job_in_one_word(tmp_path: Path, profile: str, command: str, says: str, code: int, state: str):
    told = state_of_job(tmp_path, profile, command, says, code, CODE_WAIT_S="0")
    assert told == state


def state_of_job(folder: Path, profile: str, command: str, says: str, code: int, **environment: str) -> str:
    """What the profile's ``status.sh`` prints in `folder` of job 12 when the batch system's command says so."""
    program = folder / "bin" / command
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {code}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", **environment}
    asked = ["sh", str(ROOT / f"profiles/{profile}/status.sh"), "12"]
    told = subprocess.run(asked, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    (line,) = told.stdout.splitlines()
    return line


UNKNOWN = ("pbs", "qstat", "qstat: Unknown Job Id 12", 153)


def test_a_pbs_job_gone_without_exit_code_has_failed(tmp_path: Path) -> None:
    """A file written on another machine may appear late."""
    assert state_of_job(tmp_path, *UNKNOWN, CODE_WAIT_S="1") == "running"
    time.sleep(2)
    assert state_of_job(tmp_path, *UNKNOWN, CODE_WAIT_S="60") == "running"
    assert state_of_job(tmp_path, *UNKNOWN, CODE_WAIT_S="1") == "failed"
    (tmp_path / ".snakemake/pbs/12.code").write_text("0\n")
    assert state_of_job(tmp_path, *UNKNOWN, CODE_WAIT_S="1") == "success"


@pytest.mark.parametrize(("code", "state"), [("0", "success"), ("1", "failed"), ("143", "failed")])
def test_a_pbs_jobs_exit_code_counts_before_the_server(tmp_path: Path, code: str, state: str) -> None:
    (tmp_path / ".snakemake/pbs").mkdir(parents=True)
    (tmp_path / ".snakemake/pbs/12.code").write_text(f"{code}\n")
    for says, number in (("cannot connect to server", 1), ("Unknown Job Id", 153), ("    job_state = E", 0)):
        assert state_of_job(tmp_path, "pbs", "qstat", says, number) == state


JOB = """#!/bin/sh
# properties = {}
python3 -c 'import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), open("saved", "w").close(), sys.exit(7)))
print("ready", flush=True)
time.sleep(60)' && exit 0 || exit 7
"""


def test_a_pbs_job_at_its_limit_saves_state_and_exit_code(standin: Path, tmp_path: Path) -> None:
    """The batch system sends SIGTERM to all processes of the job: its shell waits for the others."""
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    (checkout / "job.sh").write_text(JOB)
    (standin / "asked").write_text("")
    (standin / "1.server.ended").touch()
    environment = {**os.environ, "PATH": f"{standin}{os.pathsep}{os.environ['PATH']}", "STANDIN": str(standin)}
    submit = [
        "sh",
        str(ROOT / "profiles/pbs/submit.sh"),
        "retrain_cifar10_preresnet20",
        "2",
        "4000",
        "1",
        "30",
        "job.sh",
    ]
    told = subprocess.run(submit, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "1.server\n"
    asked = (standin / "asked").read_text()
    assert "-N retrain_cifar10 -l select=1:ncpus=2:ngpus=1:mem=4000mb -l walltime=30:00" in asked
    job = subprocess.Popen(
        ["sh", str(standin / "1.server.sh")], cwd="/", stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert job.stdout.readline() == "ready\n"
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(20) == 7
    assert (checkout / "saved").exists()
    assert (checkout / ".snakemake/pbs/1.server.code").read_text() == "7\n"


def test_scripts_of_the_profiles_may_be_run() -> None:
    for path in (ROOT / "profiles").rglob("*.sh"):
        assert path.stat().st_mode & stat.S_IXUSR, path
        assert shutil.which("sh")
        subprocess.run(["sh", "-n", str(path)], check=True)


# The first process of a pod

NAMESPACE = ("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc")
"""Makes its command the first process of a namespace, as in a container."""

SAVES = """import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open("saved", "w").close()
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
open("started", "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize("prefix", [(), NAMESPACE], ids=["anywhere", "first process"])
def test_a_pod_that_is_stopped_saves_its_state(tmp_path: Path, prefix: tuple[str, ...]) -> None:
    """Only the first process gets the signal; the job below it saves, and its exit code is the pod's."""
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces of processes are not permitted here")
    (tmp_path / "saves.py").write_text(SAVES)
    (tmp_path / "script.sh").write_text(f"#!/bin/sh\ncd '{tmp_path}' && '{sys.executable}' saves.py\n")
    command = [*prefix, "sh", str(ROOT / "profiles/kubernetes/job.sh"), str(tmp_path / "script.sh")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as pod:
        try:
            until = time.monotonic() + 60
            while not (tmp_path / "started").exists() and time.monotonic() < until:
                time.sleep(0.05)
            first = psutil.Process(pod.pid).children()[0] if prefix else psutil.Process(pod.pid)
            first.send_signal(signal.SIGTERM)
            assert pod.wait(30) == 3
        finally:
            pod.kill()
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_pod_ends_with_the_exit_code_of_its_job(tmp_path: Path, code: int) -> None:
    (tmp_path / "script.sh").write_text(f"exit {code}\n")
    job = ["sh", str(ROOT / "profiles/kubernetes/job.sh"), str(tmp_path / "script.sh")]
    assert subprocess.run(job, check=False, timeout=30).returncode == code


def test_a_submitted_pod_runs_its_script_in_the_wrapper(standin: Path, tmp_path: Path) -> None:
    """The stand-in loses the first job; the second writes its exit code."""
    (tmp_path / "script.sh").write_text(f"touch '{tmp_path}/ran'; exit 5\n")
    environment = {**os.environ, "PATH": f"{standin}{os.pathsep}{os.environ['PATH']}", "STANDIN": str(standin)}
    submit = ["sh", str(ROOT / "profiles/kubernetes/submit.sh"), "1", "1000", "0", "5", str(tmp_path / "script.sh")]
    for _ in range(2):
        subprocess.run(submit, env=environment, cwd=tmp_path, check=True, timeout=30)
    (container,) = yaml.safe_load((standin / "1.yaml").read_text())["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sh", str(ROOT / "profiles/kubernetes/job.sh"), submit[-1]]
    until = time.monotonic() + 30
    while not (standin / "1.code").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert (tmp_path / "ran").exists() and (standin / "1.code").read_text() == "5\n"
