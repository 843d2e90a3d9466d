"""Batch systems by their commands, and the first process of a pod."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from checkout import ROOT, Checkout
from finished import OPTIONS, copied

GENERIC = ("kubernetes", "pbs")
PLUGIN = "snakemake-executor-plugin-cluster-generic"

# What stands in for the commands of a batch system runs each job on this machine and tells its state. The first job
# dies without having done anything, as one does whose node is lost: nobody writes its exit code.

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


@pytest.mark.slow
@pytest.mark.parametrize("profile", GENERIC)
def test_after_a_run_neither_does_a_generic_profile(complete_tiny: Checkout, plugin: Path, profile: str) -> None:
    assert "Nothing to be done" in complete_tiny.under(profile, "--dry-run", *OPTIONS, path=str(plugin))


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
    output = checkout.under(profile, str(lost), *OPTIONS, path=str(plugin), **path)
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
