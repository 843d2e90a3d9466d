"""The faults that `benchmarks.faults` injects into a small study, each into a folder of its own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "config.yaml", "config", "rules", "scripts", "profiles", "envs", "schemas", "reference",
         "three_regime")  # fmt: skip

NAME = "faults"
RESULTS = Path("results/faults")
STUDY = RESULTS / NAME
OVERLAY = "faults.yaml"

TINY = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())["studies"]["tiny"]

CONFIG = {
    "results": str(RESULTS),
    "run": [NAME],
    "published": False,
    "threads": 1,
    "state_every_s": 0.2,
    "studies": {
        NAME: {
            **TINY,
            "dense": {**TINY["dense"], "batch_size": 16},
            "retrain": {**TINY["retrain"], "batch_size": 32},
            "claims": [],
        }
    },
}
"""The study of ``config/tiny.yaml`` with more steps, so that there is time to kill it; no stage takes longer than
seconds."""

STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "prepare": ("data", ("data/digits.safetensors",)),
    "dense": (f"{NAME}_dense", (f"{STUDY}/seed1/*/dense.*", f"{RESULTS}/.state/{NAME}/seed1/dense.state.*")),
    "prune": (f"{NAME}_pruned", (f"{STUDY}/seed1/*/*/pruned.*",)),
    "retrain": (f"{NAME}_retrained", (f"{STUDY}/seed1/*/*/*/retrained.*",)),
    "lmc": (f"{NAME}_lmc", (f"{STUDY}/seed1/*/*/*/lmc.json",)),
    "cka": (f"{NAME}_cka", (f"{STUDY}/seed1/*/*/*/cka.json",)),
    "analysis": (f"{NAME}_tables", (f"{STUDY}/*.csv",)),
}
"""Stage → Snakemake's target, and patterns of the files that it makes."""

LATEST_KILL_S = {"prepare": 1.5, "dense": 6.0, "prune": 1.5, "retrain": 5.0, "lmc": 5.0, "cka": 4.0, "analysis": 2.0}
"""Kills are drawn from so many seconds after the stage's first job has begun; half of it after each that was late."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code, and all that it printed."""

    code: int
    text: str


@dataclass
class Place:
    """A folder with the project and the study in it."""

    path: Path

    def environment(self) -> dict[str, str]:
        """Variables under which this copy is imported."""
        return {**os.environ, "PYTHONPATH": str(self.path), "OMP_NUM_THREADS": "1", "THREE_REGIME_TERSE": "0"}

    def command(self, target: str) -> list[str]:
        """The project's own way to run Snakemake."""
        return [sys.executable, "-m", "three_regime", "workflow", "--cores", "2", target, "--configfile", OVERLAY]

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; its output goes to a file (`text`)."""
        with open(self.path / "output.txt", "a") as output:
            return subprocess.Popen(
                command, cwd=self.path, env=self.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                text=True, start_new_session=True,
            )  # fmt: skip

    def run(self, command: list[str], seconds: float = 900) -> Ended:
        """Run a command to its end."""
        before = len(self.text())
        code = self.start(command).wait(timeout=seconds)
        return Ended(code, self.text()[before:])

    def make(self, target: str) -> Ended:
        """Run the workflow to its end."""
        return self.run(self.command(target))

    def bare(self, stage: str) -> list[str]:
        """Run a stage without Snakemake."""
        return [sys.executable, "-m", "three_regime", "run-stage", stage, "--configfile", OVERLAY]

    def text(self) -> str:
        """Everything that the commands have printed."""
        path = self.path / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def files(self, *patterns: str) -> list[Path]:
        """Files of this place that match, in order."""
        return sorted(path for pattern in patterns for path in self.path.glob(pattern))

    def forget(self, stage: str) -> str:
        """Remove what a stage has made; returns its target."""
        target, patterns = STAGES[stage]
        for path in self.files(*patterns):
            path.unlink()
        return target


def place_project(folder: Path) -> Place:
    """Copy the project to `folder`, without results, and write the study's configuration."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / part)
    (folder / OVERLAY).write_text(yaml.safe_dump(CONFIG))
    return Place(folder)


def copy_place(source: Place, folder: Path) -> Place:
    """A copy with results, times and Snakemake's records."""
    shutil.copytree(source.path, folder, symlinks=True)
    (folder / "output.txt").unlink(missing_ok=True)
    return Place(folder)


@dataclass
class Injected:
    """A fault that has been injected.

    Attributes
    ----------
    target
        What is to be made again now, with no other command.
    about
        What was done, in words.
    damaged
        Files that a refusal may name; deleted before the second attempt.
    said
        What a run under the fault printed, where it had to be refused.
    """

    target: str
    about: str
    damaged: list[Path] = field(default_factory=list)
    said: str | None = None


Case = Callable[[Place, random.Random], Injected]


class TooLate(Exception):
    """The job had ended before it was to be killed."""


def killed(stage: str, victim: str) -> Case:
    """SIGKILL to the `job`, to `snakemake` or to the whole process `group`, at a random moment of a stage."""

    def inject(place: Place, rng: random.Random) -> Injected:
        latest = LATEST_KILL_S[stage]
        for _ in range(6):
            target = place.forget(stage)
            try:
                delay = rng.uniform(0, latest)
                _kill(place, target, victim, delay)
                return Injected(target, f"{delay:.2f} s after the first job began")
            except TooLate:
                latest /= 2
        raise RuntimeError(f"{stage} ends before it can be killed")

    return inject


def _kill(place: Place, target: str, victim: str, delay: float) -> None:
    process = place.start(place.command(target))
    _await_job(process)
    time.sleep(delay)
    if process.poll() is not None:
        raise TooLate
    if victim == "job":
        try:
            _jobs(process)[0].kill()
        except (IndexError, psutil.NoSuchProcess) as error:
            process.wait(timeout=600)
            raise TooLate from error
    elif victim == "snakemake":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=600)


def _jobs(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Processes of the workflow's scripts, oldest first."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(".snakemake/scripts/" in part for part in child.cmdline()[:3]):
                    found.append(child)
    return sorted(found, key=lambda child: child.pid)


def _await_job(process: subprocess.Popen[str]) -> None:
    """Wait until the workflow has begun its first job."""
    while process.poll() is None:
        if _jobs(process):
            return
        time.sleep(0.02)
    raise TooLate


MOUNTABLE = shutil.which("mount") is not None and hasattr(os, "geteuid") and os.geteuid() == 0


@contextlib.contextmanager
def small_disk(place: Place, spare: int) -> Iterator[Path]:
    """The study's results on a file system of their own with `spare` bytes left; copied back at the end."""
    results = place.path / RESULTS
    aside = place.path / "aside"
    results.rename(aside)
    results.mkdir()
    used = sum(-(-path.stat().st_size // 4096) * 4096 for path in aside.rglob("*") if path.is_file())
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={used + spare}", "tmpfs", results], check=True)
    try:
        shutil.copytree(aside, results, dirs_exist_ok=True)
        yield results
    finally:
        shutil.rmtree(aside)
        subprocess.run(["mount", "-o", "remount,rw,size=1g", results], check=True)
        shutil.copytree(results, aside)
        subprocess.run(["umount", results], check=True)
        results.rmdir()
        aside.rename(results)


def full_disk(stage: str) -> Case:
    """The disk is full in the middle of a stage; then there is room again."""

    def inject(place: Place, rng: random.Random) -> Injected:
        target = place.forget(stage)
        spare = rng.choice([0, 8192, 16384])
        with small_disk(place, spare) as results:
            said = place.run(place.bare(stage))
            held = sorted(path for path in results.rglob("*.part"))
        if said.code == 0:
            raise RuntimeError("the disk was not full")
        about = f"{spare} bytes were left"
        return Injected(target, about + (f"; left behind: {held[0].name}" if held else ""), said=said.text)

    return inject


def read_only(stage: str) -> Case:
    """The results cannot be written; then they can."""

    def inject(place: Place, rng: random.Random) -> Injected:
        target = place.forget(stage)
        with small_disk(place, 1 << 20) as results:
            subprocess.run(["mount", "-o", "remount,ro", results], check=True)
            said = place.run(place.bare(stage) if rng.random() < 0.5 else place.command(target))
        return Injected(target, "results on a read-only file system", said=said.text)

    return inject


def clock(place: Place, rng: random.Random) -> Injected:
    """The clock jumped: a third of all files is from the future or from long ago."""
    moment = rng.choice([time.time() + 10 * 365 * 86400, time.time() + 3600, 0.0])
    chosen = [path for path in place.files(f"{RESULTS}/**/*", "data/*") if path.is_file() and rng.random() < 1 / 3]
    for path in chosen:
        os.utime(path, (moment, moment))
    return Injected(f"{NAME}_tables", f"{len(chosen)} files are of {time.strftime('%Y', time.gmtime(moment))}")


def damaged(pattern: str, downstream: str, how: str) -> Case:
    """A file that a stage reads is cut short, or one bit of it is another."""

    def inject(place: Place, rng: random.Random) -> Injected:
        target = place.forget(downstream)
        path = rng.choice(place.files(pattern))
        times = path.stat()
        content = bytearray(path.read_bytes())
        where = rng.randrange(len(content))
        if how == "truncated":
            del content[where:]
        else:
            content[where] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return Injected(target, f"byte {where} of {path.relative_to(place.path)}", damaged=[path])

    return inject


def damaged_state(stage: str, how: str) -> Case:
    """A run is killed, and the state that it saved is damaged."""

    def inject(place: Place, rng: random.Random) -> Injected:
        target = place.forget(stage)
        process = place.start(place.bare(stage))
        pattern = f"{RESULTS}/.state/**/{stage}.state.safetensors"
        while not (states := place.files(pattern)) and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
        if not states:
            raise RuntimeError("no state was saved")
        content = bytearray(states[0].read_bytes())
        where = rng.randrange(len(content))
        if how == "truncated":
            del content[where:]
        else:
            content[where] ^= 1 << rng.randrange(8)
        states[0].write_bytes(content)
        return Injected(target, f"byte {where} of {states[0].relative_to(place.path)}")

    return inject


def deleted(place: Place, rng: random.Random) -> Injected:
    """An output is gone."""
    stage = rng.choice(["dense", "prune", "retrain", "lmc", "cka", "analysis"])
    target, patterns = STAGES[stage]
    path = rng.choice(place.files(*patterns[:1]))
    path.unlink()
    return Injected(target, str(path.relative_to(place.path)))


def two_workflows(place: Place, rng: random.Random) -> Injected:
    """Two Snakemake processes work on one folder."""
    target = place.forget("retrain")
    first = place.start(place.command(target))
    time.sleep(rng.uniform(0, 5))
    second = place.run(place.command(target))
    first.wait(timeout=600)
    return Injected(target, f"the second ended with {second.code}", said=second.text if second.code else None)


def two_stages(place: Place, rng: random.Random) -> Injected:
    """Two processes without Snakemake compute the same stage of one folder."""
    target = place.forget("retrain")
    first = place.start(place.bare("retrain"))
    time.sleep(rng.uniform(0, 5))
    second = place.run(place.bare("retrain"))
    codes = (first.wait(timeout=600), second.code)
    if codes != (0, 0):
        raise RuntimeError(f"they ended with {codes}")
    return Injected(target, "both ended well")


_OUT_OF_MEMORY = """
import sys, torch
from three_regime.training.batch_splitting import BatchSplitter
sound, steps, limit = BatchSplitter.compute, [], int(sys.argv.pop(1))
def failing(splitter, parts, compute):
    steps.append(None)
    def compute_or_fail(pieces):
        if len(steps) == limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(pieces)
    return sound(splitter, parts, compute_or_fail)
BatchSplitter.compute = failing
from three_regime.cli import main
main()
"""


def out_of_memory(stage: str) -> Case:
    """The GPU runs out of memory in a training step (simulated); then it does not."""

    def inject(place: Place, rng: random.Random) -> Injected:
        target = place.forget(stage)
        step = rng.randrange(2, 40)
        said = place.run([sys.executable, "-c", _OUT_OF_MEMORY, str(step), *place.bare(stage)[3:]])
        if said.code == 0:
            raise RuntimeError("the memory sufficed")
        return Injected(target, f"in step {step}", said=said.text)

    return inject
