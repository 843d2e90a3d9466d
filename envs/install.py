"""Install the project's environment: a virtual environment in ``.venv`` with the pinned lock and this package.

Run by `make env` with any Python ≥ 3.11, using the standard library only. The one optional argument is a folder other
than ``.venv``. An environment that is complete and up to date is kept; a stamp, written last, records this. One without
a stamp was interrupted and is recreated. Never touched: a folder without the marker file, which is written first, and
the environment of another checkout, which the marker names.
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
"""Marker file in every environment created by this script; it holds the path of the checkout."""


def key(root: Path, venv: Path) -> str:
    """Hash the requirements and the location of the environment: its programs contain their absolute path."""
    content = [(root / "envs" / name).read_bytes() for name in REQUIREMENTS]
    elsewhere = [] if venv == root / ".venv" else [os.fsencode(venv)]
    return hashlib.sha256(b"\0".join([*content, os.fsencode(root), *elsewhere])).hexdigest()


def complete(root: Path, venv: Path) -> bool:
    """Return whether the environment is complete for the current requirements and its Python still exists."""
    with contextlib.suppress(OSError):
        return (venv / "bin" / "python").exists() and (venv / "complete").read_text() == key(root, venv)
    return False


def foreign(venv: Path) -> bool:
    """Return whether the path exists but was not created by this script; links never were."""
    if venv.is_symlink() or not venv.is_dir():
        return venv.is_symlink() or venv.exists()
    if any((venv / name).is_file() for name in (MARK, "complete")) or not any(venv.iterdir()):
        return False
    with contextlib.suppress(OSError):  # earlier versions left no marker in an interrupted environment
        return "requirements-lock.txt" not in (venv / "pip.conf").read_text()
    return True


def of_another_checkout(root: Path, venv: Path) -> str | None:
    """Return the other checkout that the environment was made for, if it still exists; None also where unknown."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        owner = (venv / MARK).read_text(encoding="utf-8")
        if owner and Path(owner) != root and (Path(owner) / "envs" / "install.py").is_file():
            return owner
    return None


def versions(lock: str) -> str:
    """Return the pins of a lock file without comments and hashes."""
    lines = (line.removesuffix("\\").strip() for line in lock.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith(("#", "--hash")))


def cpu_build(lock: str) -> str:
    """Return the lock's torch entry, restricted to the CPU-only build.

    Of two wheels that the lock allows, pip prefers the one whose hash is in its index; a local folder has no hashes.
    """
    lines = iter(lock.splitlines())
    first = next(line for line in lines if line.startswith("torch=="))
    hashes = itertools.takewhile(lambda line: line.startswith(" "), lines)
    return "\n".join([first.replace(" \\", "+cpu \\"), *hashes]) + "\n"


def needs_cuda(venv: Path) -> bool:
    """Return whether the installed torch build requires CUDA libraries."""
    about = venv.glob("lib/python*/site-packages/torch-*.dist-info/METADATA")
    return any("\nRequires-Dist: nvidia-" in path.read_text(encoding="utf-8") for path in about)


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA driver, hence the CUDA build of torch is wanted."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


@contextlib.contextmanager
def locked(venv: Path) -> Iterator[int | None]:
    """Hold the lock on `venv`; child processes inherit its descriptor, so it is held until the last one exits."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_name(f"{venv.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another make is installing {venv}: waiting for it to finish", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            print(f"this file system does not support locks: run a single make until {venv} is complete", flush=True)
        yield file.fileno()


def begin(root: Path, venv: Path) -> None:
    """Remove the remains of an environment, its stamp first; leave an empty folder with the marker file."""
    if venv.exists():
        (venv / "complete").unlink(missing_ok=True)
        for path in venv.iterdir():
            if path.name != MARK:  # the last to go: without it the rest would be taken for somebody else's
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    venv.mkdir(exist_ok=True)
    (venv / MARK).write_text(str(root), encoding="utf-8")


def base_python(venv: Path) -> str:
    """Return the running Python, or its base interpreter if it is inside the `venv` about to be removed."""
    if Path(sys.prefix).resolve() != venv.resolve():
        return sys.executable
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def step(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", flush=True)


def make(root: Path, venv: Path, python: str, lock: int | None) -> None:
    """Create the environment from scratch.

    Raises
    ------
    subprocess.CalledProcessError
        When a step fails.
    """
    envs = root / "envs"
    constraints = (venv / "constraints.txt").as_uri()  # a plain path would be split at its spaces
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
        # In addition to `pip -c`: packages built from source would otherwise fetch another torch to build against.
        "PIP_CONSTRAINT": constraints,
        "PIP_BUILD_CONSTRAINT": constraints,  # read by pip 25.3 and newer for such builds
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

    begin(root, venv)
    run(python, "-m", "venv", venv)
    # The constraints also apply to later manual installs, so nothing replaces torch unasked. They omit the hashes,
    # which pip would otherwise require for every such install.
    (venv / "constraints.txt").write_text(versions((envs / "requirements-lock.txt").read_text()))
    (venv / "pip.conf").write_text(f"[global]\nconstraint = {constraints}\n")
    (venv / "torch-cpu.txt").write_text(cpu_build((envs / "requirements-lock.txt").read_text()))
    pins = versions((envs / "requirements-lock.txt").read_text()).splitlines()
    step("1 of 3: torch")
    if not has_gpu():
        with contextlib.suppress(subprocess.CalledProcessError):  # no CPU build: the lock's own entry applies
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            pip("--no-deps", "--require-hashes", "-r", venv / "torch-cpu.txt", **quiet)
    step(f"2 of 3: {len(pins)} packages of envs/requirements-lock.txt")
    pip("--no-deps", "--require-hashes", "-r", envs / "requirements-lock.txt")
    if needs_cuda(venv):
        pip("--no-deps", "--require-hashes", "-r", envs / "requirements-cuda.txt")
    pip("-r", envs / "requirements.txt")  # no effect unless the lock lacks packages that this platform needs
    step("3 of 3: this project")
    pip("--no-deps", "--no-build-isolation", "-e", root)
    stamp = venv / "complete.new"
    stamp.write_text(key(root, venv))
    stamp.replace(venv / "complete")


def main(place: str = ".venv") -> int:
    """Create the environment if missing, incomplete or outdated; `place` is relative to the checkout."""
    venv = Path(os.path.abspath(ROOT / Path(place).expanduser()))  # a link stays a link
    if complete(ROOT, venv):
        return 0
    if foreign(venv):
        print(
            f"{venv} was not made by `make env` and is left as it is: choose another path for the project's environment"
            " (make TARGET VENV=PATH), or move it away",
            file=sys.stderr,
        )
        return 2
    if owner := of_another_checkout(ROOT, venv):
        print(
            f"{venv} is the environment of the checkout {owner}, and each checkout needs its own: choose another path"
            " (make TARGET VENV=PATH), or delete that environment",
            file=sys.stderr,
        )
        return 2
    try:
        with locked(venv) as lock:
            if complete(ROOT, venv):
                return 0
            print(f"installing the environment in {place} (about 2 minutes and 2 GB; more with CUDA)", flush=True)
            make(ROOT, venv, base_python(venv), lock)
    except subprocess.CalledProcessError as error:
        print(f"the environment is incomplete: `{' '.join(error.cmd)}` failed; run make again", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"the environment cannot be made in {venv}: {error.filename or ''} {error.strerror or error}; choose"
            " another path with make TARGET VENV=PATH",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("stopped: the next make reinstalls the environment from scratch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
