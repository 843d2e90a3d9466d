"""A real SLURM on this machine for tests: start with ``../shared/tools/slurm``, query, and stop without remains."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from checkout import SHARED
from filelock import FileLock, Timeout

TOOLS = SHARED / "tools" / "slurm"
INSTALL_S = 420
"""Seconds for installing the packages and starting the daemons; 25 s on a machine that does nothing else."""

GRACE_S = 120
"""Between the SIGTERM of a preempted job and its end."""

LONGER_S = 180
"""How long the test waits for anything that takes seconds."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Cluster:
    """A running cluster: two nodes with two (pretended) GPUs each; partitions gpu, preempt and short."""

    base: Path
    nodes: tuple[str, ...] = ("gpu1", "gpu2")

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment variables through which client programs find the cluster."""
        path = f"{self.base / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **more, "SLURM_CONF": str(self.base / "etc/slurm.conf"), "PATH": path}

    def ask(self, *command: str) -> str:
        """Output of a client program."""
        ended = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, f"{command}: {ended.stderr}"
        return ended.stdout

    def jobs(self) -> dict[int, dict[str, str]]:
        """Return the jobs known to the controller: number → fields, as written by ``scontrol show job``."""
        found = {}
        for line in self.ask("scontrol", "--oneliner", "--details", "show", "job").splitlines():
            fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
            if "JobId" in fields:
                found[int(fields["JobId"])] = fields
        return found


@dataclass
class Watch:
    """Observed states of the cluster's jobs, polled twice a second and once at the end."""

    cluster: Cluster
    seen: list[dict[int, dict[str, str]]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(0.5)
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):  # a busy controller
                self.seen.append(self.cluster.jobs())

    def last(self) -> dict[int, dict[str, str]]:
        """Return the last observed state of every job; the controller forgets finished ones."""
        return {number: job for moment in self.seen for number, job in moment.items()}

    def running(self) -> list[dict[int, dict[str, str]]]:
        """The jobs that ran at each moment."""
        return [{number: job for number, job in jobs.items() if job["JobState"] == "RUNNING"} for jobs in self.seen]


def name_of(job: dict[str, str]) -> str:
    """Return SLURM's identifier of a single job; the last task of an array shares the array's number."""
    return f"{job['ArrayJobId']}_{job['ArrayTaskId']}" if "ArrayJobId" in job else job["JobId"]


def gpus_of(job: dict[str, str]) -> set[tuple[str, str]]:
    """(node, number) of every GPU that a running job was given."""
    found = re.fullmatch(r"gpu(?::\w+)?:\d+\(IDX:([\d,-]+)\)", job.get("GRES", ""))
    return {(job["NodeList"], index) for index in found[1].split(",")} if found else set()


def until(value: Callable[[], Value], what: str, seconds: float = LONGER_S) -> Value:
    """Poll until the answer is true; return it."""
    deadline = time.monotonic() + seconds
    while not (answer := value()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.3)
    return answer


def snakemake(profile: str, *arguments: str) -> list[str]:
    """Snakemake as ``make slurm`` starts it, with a test's polling."""
    command = [sys.executable, "-m", "three_regime", "workflow", "--workflow-profile", profile]
    return [*command, "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "1", *arguments]


@contextlib.contextmanager
def started(*, accounting: bool) -> Iterator[Cluster]:
    """Start a cluster, or skip the test with the reason; stop it and leave no process."""
    if not (TOOLS / "slurm-up.sh").is_file():
        pytest.skip(f"the scripts that start SLURM are not at {TOOLS}")
    if os.getuid() != 0:
        pytest.skip("starting a SLURM cluster needs root")
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        pytest.skip("SLURM is not installed, and there is no apt-get to install it with")
    lock = FileLock(Path(tempfile.gettempdir()) / "three-regime-test-slurm.lock")  # the ports are fixed
    try:
        lock.acquire(timeout=900)
    except Timeout:
        pytest.skip("another test run uses the cluster's ports")
    base = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: paths of sockets may have no more than 107 characters
    cluster = Cluster(base)
    try:
        _start(cluster, accounting)
        yield cluster
    finally:
        left = _stop(cluster)
        shutil.rmtree(base, ignore_errors=True)
        lock.release()
        assert not left, f"processes of the cluster were left: {left}"


def _start(cluster: Cluster, accounting: bool) -> None:
    wanted = {"BASE": str(cluster.base), "NODES": "2", "GPUS": "2", "CPUS": "8", "MEM_MB": "32000", "ETC": "0"}
    environment = {**os.environ, **wanted, "ACCT": str(int(accounting))}
    log = cluster.base / "up.log"
    with open(log, "w") as stream:
        process = subprocess.Popen(
            ["bash", str(TOOLS / "slurm-up.sh")], env=environment, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=stream, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(INSTALL_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = -1
    if code != 0:
        pytest.skip(f"SLURM could not be installed and started ({code}): {log.read_text()[-600:]}")
    # A finished job must be remembered until Snakemake asks again, which it does ever more rarely; 300 s is SLURM's own
    # default.
    config = cluster.base / "etc/slurm.conf"
    text = re.sub("MinJobAge=.*", "MinJobAge=300", config.read_text())
    # As on most clusters, a preempted job is given time to save its state.
    config.write_text(re.sub("(PartitionName=preempt .*)", rf"\1 GraceTime={GRACE_S}", text))
    cluster.ask("scontrol", "reconfigure")
    until(lambda: cluster.ask("sinfo", "-h", "-p", "gpu", "-t", "idle", "-o", "%D").strip() == "2", "idle nodes")


def _stop(cluster: Cluster) -> list[str]:
    """Stop the daemons and every process of the cluster; return those still running."""
    environment = cluster.environment(BASE=str(cluster.base))
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            ["bash", str(TOOLS / "slurm-down.sh")], env=environment, timeout=180, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    for process in _belonging(cluster):
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(_belonging(cluster), timeout=20)
    return [" ".join(process.cmdline()) for process in _belonging(cluster)]


def _belonging(cluster: Cluster) -> list[psutil.Process]:
    """Processes whose arguments or environment name the cluster's folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(cluster.base) in word for word in words):
                found.append(process)
    return found
