"""Make the project's environment: a virtual environment in ``.venv`` from the pinned lock, and this package in it.

Run by `make env` with any Python ≥ 3.11, standard library only; another folder than ``.venv`` is the one argument. What
is complete and up to date is left alone. A stamp, written last, says so; an environment without it was interrupted, and
is made anew from nothing. A folder that was not made here is never touched: a mark, written first, tells.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ("requirements-lock.txt", "requirements-cuda.txt", "requirements.txt")
MARK = "made-by-three-regime"
"""File in every environment that was made here."""


def key(root: Path, venv: Path) -> str:
    """Hash of what the environment is made from and where: programs in it carry their absolute path."""
    content = [(root / "envs" / name).read_bytes() for name in REQUIREMENTS]
    elsewhere = [] if venv == root / ".venv" else [os.fsencode(venv)]
    return hashlib.sha256(b"\0".join([*content, os.fsencode(root), *elsewhere])).hexdigest()


def complete(root: Path, venv: Path) -> bool:
    """Whether the environment was finished from the present requirements, and its Python still exists."""
    with contextlib.suppress(OSError):
        return (venv / "bin" / "python").exists() and (venv / "complete").read_text() == key(root, venv)
    return False


def foreign(venv: Path) -> bool:
    """Whether something is there that was not made here; a link never was, whatever it leads to."""
    if venv.is_symlink() or not venv.is_dir():
        return venv.is_symlink() or venv.exists()
    if any((venv / name).is_file() for name in (MARK, "complete")) or not any(venv.iterdir()):
        return False
    with contextlib.suppress(OSError):  # of earlier versions, which left no mark in what was interrupted
        return "requirements-lock.txt" not in (venv / "pip.conf").read_text()
    return True


def versions(lock: str) -> str:
    """The pins of a lock without its comments and hashes."""
    lines = (line.removesuffix("\\").strip() for line in lock.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith(("#", "--hash")))


def cpu_build(lock: str) -> str:
    """The lock's entry of torch, for its CPU-only build alone.

    Between two wheels that the lock allows pip takes the one whose hash its index lists; a local folder lists none.
    """
    lines = iter(lock.splitlines())
    first = next(line for line in lines if line.startswith("torch=="))
    hashes = itertools.takewhile(lambda line: line.startswith(" "), lines)
    return "\n".join([first.replace(" \\", "+cpu \\"), *hashes]) + "\n"


def needs_cuda(venv: Path) -> bool:
    """Whether the installed torch is a build that asks for CUDA's libraries."""
    about = venv.glob("lib/python*/site-packages/torch-*.dist-info/METADATA")
    return any("\nRequires-Dist: nvidia-" in path.read_text(encoding="utf-8") for path in about)


@contextlib.contextmanager
def locked(venv: Path) -> Iterator[int | None]:
    """Hold the lock on `venv`; its descriptor goes to child processes, so that it is held as long as any works."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_name(f"{venv.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another make works on {venv}: waiting for it to end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            print(f"this file system has no locks: run one make at a time until {venv} is complete", flush=True)
        yield file.fileno()


def begin(venv: Path) -> None:
    """Remove what is left of an environment, its stamp first, and leave an empty folder with the mark."""
    if venv.exists():
        (venv / "complete").unlink(missing_ok=True)
        for path in venv.iterdir():
            if path.name != MARK:  # the last to go: without it the rest would be taken for somebody else's
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    venv.mkdir(exist_ok=True)
    (venv / MARK).touch()


def base_python(venv: Path) -> str:
    """The running Python, or the one it was made from when it lies inside the `venv` about to be removed."""
    if Path(sys.prefix).resolve() != venv.resolve():
        return sys.executable
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def step(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", flush=True)


def make(root: Path, venv: Path, python: str, lock: int | None) -> None:
    """Make the environment from nothing.

    Raises
    ------
    subprocess.CalledProcessError
        When a step fails.
    """
    envs = root / "envs"
    constraints = (venv / "constraints.txt").as_uri()  # a plain path would be split at its spaces
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
        # Not only `pip -c`: packages that are built from source would fetch another torch to build against.
        "PIP_CONSTRAINT": constraints,
        "PIP_BUILD_CONSTRAINT": constraints,  # what pip 25.3 and newer read for such builds
        "PIP_USER": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment.setdefault("PIP_DEFAULT_TIMEOUT", "60")

    def run(*command: str | Path, **options: int) -> None:
        words = [str(word) for word in command]
        passed = [lock] if lock is not None else []
        subprocess.run(words, cwd=root, env=environment, check=True, pass_fds=passed, **options)

    def pip(*arguments: str | Path, **options: int) -> None:
        # Quiet: errors and warnings. What is going on, `step` says.
        run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", *arguments, **options)

    begin(venv)
    run(python, "-m", "venv", venv)
    # Holds for whatever somebody installs here by hand later, too: nothing changes torch unasked. Without the hashes,
    # which would have to be given for that as well.
    (venv / "constraints.txt").write_text(versions((envs / "requirements-lock.txt").read_text()))
    (venv / "pip.conf").write_text(f"[global]\nconstraint = {constraints}\n")
    (venv / "torch-cpu.txt").write_text(cpu_build((envs / "requirements-lock.txt").read_text()))
    pins = versions((envs / "requirements-lock.txt").read_text()).splitlines()
    step("1 of 3: torch")
    with contextlib.suppress(subprocess.CalledProcessError):  # not offered: the lock's own line takes the registry's
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        pip("--no-deps", "--require-hashes", "-r", venv / "torch-cpu.txt", **quiet)
    step(f"2 of 3: {len(pins)} packages of envs/requirements-lock.txt")
    pip("--no-deps", "--require-hashes", "-r", envs / "requirements-lock.txt")
    if needs_cuda(venv):
        pip("--no-deps", "--require-hashes", "-r", envs / "requirements-cuda.txt")
    pip("-r", envs / "requirements.txt")  # nothing, unless the lock lacks what this platform needs
    step("3 of 3: this project")
    pip("--no-deps", "--no-build-isolation", "-e", root)
    stamp = venv / "complete.new"
    stamp.write_text(key(root, venv))
    stamp.replace(venv / "complete")


def main(place: str = ".venv") -> int:
    """Make the environment where it is missing, half-made or out of date; `place` counts from the checkout."""
    venv = Path(os.path.abspath(ROOT / Path(place).expanduser()))  # a link stays a link
    if complete(ROOT, venv):
        return 0
    if foreign(venv):
        print(
            f"{venv} was not made by `make env` and is left as it is: name another place for this project's environment"
            " (make TARGET VENV=PATH), or move it away",
            file=sys.stderr,
        )
        return 2
    with locked(venv) as lock:
        if complete(ROOT, venv):
            return 0
        print(f"making the environment in {place} (about 2 minutes and 2 GB; more with CUDA)", flush=True)
        try:
            make(ROOT, venv, base_python(venv), lock)
        except subprocess.CalledProcessError as error:
            print(f"the environment is not complete: `{' '.join(error.cmd)}` failed; run make again", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopped: the next make starts the environment anew", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
