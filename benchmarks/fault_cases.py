"""Faults that `benchmarks.faults` injects into a small study, each in its own folder."""

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
            "lockstep": 32,  # packs, as on a GPU; `auto` would choose the engine, whose stages are too short to kill
            "dense": {**TINY["dense"], "batch_size": 16},
            "retrain": {**TINY["retrain"], "batch_size": 32},
            "claims": [],
        }
    },
}
"""Study of ``config/tiny.yaml`` with more steps, to leave time for a kill; each stage takes only seconds."""

STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "prepare": ("data", ("data/digits.safetensors",)),
    "dense": (f"{NAME}_dense", (f"{STUDY}/seed1/*/dense.*", f"{RESULTS}/.state/{NAME}/seed1/dense.state.*")),
    "prune": (f"{NAME}_pruned", (f"{STUDY}/seed1/*/*/pruned.*",)),
    "retrain": (f"{NAME}_retrained", (f"{STUDY}/seed1/*/*/*/retrained.*",)),
    "lmc": (f"{NAME}_lmc", (f"{STUDY}/seed1/*/*/*/lmc.json",)),
    "cka": (f"{NAME}_cka", (f"{STUDY}/seed1/*/*/*/cka.json",)),
    "analysis": (f"{NAME}_tables", (f"{STUDY}/*.csv",)),
}
"""Stage → Snakemake target and patterns of its output files."""

LATEST_KILL_S = {"prepare": 1.5, "dense": 6.0, "prune": 1.5, "retrain": 5.0, "lmc": 5.0, "cka": 4.0, "analysis": 2.0}
"""Kill times are drawn from this many seconds after the stage's first job starts, halved after each late kill."""


@dataclass(frozen=True)
class Ended:
    """A finished command: its exit code and its output."""

    code: int
    text: str


@dataclass
class Place:
    """A folder that contains the project and the study."""

    path: Path

    def environment(self) -> dict[str, str]:
        """Environment variables that make Python import this copy."""
        return {**os.environ, "PYTHONPATH": str(self.path), "OMP_NUM_THREADS": "1", "THREE_REGIME_TERSE": "0"}

    def command(self, target: str) -> list[str]:
        """Return the project's command that runs Snakemake."""
        return [sys.executable, "-m", "three_regime", "workflow", "--cores", "2", target, "--configfile", OVERLAY]

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a command in its own process group, with output to a file (`text`)."""
        with open(self.path / "output.txt", "a") as output:
            return subprocess.Popen(
                command, cwd=self.path, env=self.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                text=True, start_new_session=True,
            )  # fmt: skip

    def run(self, command: list[str], seconds: float = 900) -> Ended:
        """Run a command to completion."""
        before = len(self.text())
        code = self.start(command).wait(timeout=seconds)
        return Ended(code, self.text()[before:])

    def make(self, target: str) -> Ended:
        """Run the workflow to completion."""
        return self.run(self.command(target))

    def bare(self, stage: str) -> list[str]:
        """Return the command that runs a stage without Snakemake."""
        return [sys.executable, "-m", "three_regime", "run-stage", stage, "--configfile", OVERLAY]

    def text(self) -> str:
        """Return the output of all commands."""
        path = self.path / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def files(self, *patterns: str) -> list[Path]:
        """Return the matching files in this folder, sorted."""
        return sorted(path for pattern in patterns for path in self.path.glob(pattern))

    def forget(self, stage: str) -> str:
        """Remove a stage's output files; return its target."""
        target, patterns = STAGES[stage]
        for path in self.files(*patterns):
            path.unlink()
        return target


def place_project(folder: Path) -> Place:
    """Copy the project without results to `folder` and write the study's configuration."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / part)
    (folder / OVERLAY).write_text(yaml.safe_dump(CONFIG))
    return Place(folder)


def copy_place(source: Place, folder: Path) -> Place:
    """Return a copy with results, modification times and Snakemake's records."""
    shutil.copytree(source.path, folder, symlinks=True)
    (folder / "output.txt").unlink(missing_ok=True)
    return Place(folder)


@dataclass
class Injected:
    """An injected fault.

    Attributes
    ----------
    target
        Target to rebuild, with no other command.
    about
        Description of the fault.
    damaged
        Files that an error message may name; deleted before the second attempt.
    said
        Output of a run under the fault, if that run must fail.
    """

    target: str
    about: str
    damaged: list[Path] = field(default_factory=list)
    said: str | None = None


Case = Callable[[Place, random.Random], Injected]


class TooLate(Exception):
    """The job finished before the time of the kill."""


def killed(stage: str, victim: str) -> Case:
    """Send SIGKILL to the `job`, `snakemake` or the whole process `group` at a random moment of a stage."""

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
    """Return the processes of the workflow's scripts, oldest first."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(".snakemake/scripts/" in part for part in child.cmdline()[:3]):
                    found.append(child)
    return sorted(found, key=lambda child: child.pid)


def _await_job(process: subprocess.Popen[str]) -> None:
    """Wait until the workflow has started its first job."""
    while process.poll() is None:
        if _jobs(process):
            return
        time.sleep(0.02)
    raise TooLate


MOUNTABLE = shutil.which("mount") is not None and hasattr(os, "geteuid") and os.geteuid() == 0


@contextlib.contextmanager
def small_disk(place: Place, spare: int) -> Iterator[Path]:
    """Put the results on a separate file system with `spare` bytes free; copy them back at the end."""
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
    """Fill the disk in the middle of a stage, then free space."""

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
    """Make the results read-only, then writable."""

    def inject(place: Place, rng: random.Random) -> Injected:
        target = place.forget(stage)
        with small_disk(place, 1 << 20) as results:
            subprocess.run(["mount", "-o", "remount,ro", results], check=True)
            said = place.run(place.bare(stage) if rng.random() < 0.5 else place.command(target))
        return Injected(target, "results on a read-only file system", said=said.text)

    return inject


def clock(place: Place, rng: random.Random) -> Injected:
    """Simulate a clock jump: move the modification times of a third of all files to the future or the distant past."""
    moment = rng.choice([time.time() + 10 * 365 * 86400, time.time() + 3600, 0.0])
    chosen = [path for path in place.files(f"{RESULTS}/**/*", "data/*") if path.is_file() and rng.random() < 1 / 3]
    for path in chosen:
        os.utime(path, (moment, moment))
    return Injected(f"{NAME}_tables", f"{len(chosen)} files are of {time.strftime('%Y', time.gmtime(moment))}")


def damaged(pattern: str, downstream: str, how: str) -> Case:
    """Truncate a file that a stage reads, or flip one of its bits."""

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
    """Kill a run and damage its saved state."""

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
    """Delete an output."""
    stage = rng.choice(["dense", "prune", "retrain", "lmc", "cka", "analysis"])
    target, patterns = STAGES[stage]
    path = rng.choice(place.files(*patterns[:1]))
    path.unlink()
    return Injected(target, str(path.relative_to(place.path)))


def two_workflows(place: Place, rng: random.Random) -> Injected:
    """Run two Snakemake processes in one folder."""
    target = place.forget("retrain")
    first = place.start(place.command(target))
    time.sleep(rng.uniform(0, 5))
    second = place.run(place.command(target))
    first.wait(timeout=600)
    return Injected(target, f"the second ended with {second.code}", said=second.text if second.code else None)


def two_stages(place: Place, rng: random.Random) -> Injected:
    """Run the same stage of one folder in two processes without Snakemake."""
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
    """Simulate a GPU out-of-memory error in one training step."""

    def inject(place: Place, rng: random.Random) -> Injected:
        target = place.forget(stage)
        step = rng.randrange(2, 40)
        said = place.run([sys.executable, "-c", _OUT_OF_MEMORY, str(step), *place.bare(stage)[3:]])
        if said.code == 0:
            raise RuntimeError("the memory sufficed")
        return Injected(target, f"in step {step}", said=said.text)

    return inject
