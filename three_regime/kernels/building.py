"""Compiling the kernels: once for each processor, compiler and version of their source, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from three_regime.errors import UserError
from three_regime.storage import replacing

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
OPTIONS = (
    "-std=gnu11",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
)
COMPILERS = ("cc", "gcc", "clang")
_TIME_LIMIT_S = 120


class Unavailable(Exception):
    """The kernels cannot be used on this machine; says why."""


def built() -> Path:
    """The shared object for this machine; compiled (in seconds) when it is not in the cache.

    Two processes that compile at once each write a complete object under the same name.

    Raises
    ------
    Unavailable
        When there is no compiler, or it fails.
    """
    if platform.system() != "Linux":
        raise Unavailable(f"they are made for Linux, this is {platform.system()}")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise Unavailable(f"there is no C compiler ({', '.join(COMPILERS)})")
    name = f"kernels-{_key(compiler)}.so"
    for folder in (cache_folder(), Path(tempfile.gettempdir()) / f"three_regime-{os.getuid()}"):
        path = folder / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                continue  # somebody else could put code there
            if not path.exists():
                with replacing(path) as temporary:
                    _compile(compiler, temporary)
        except (OSError, UserError):
            continue  # not writable, or full
        return path
    raise Unavailable(f"they cannot be written to {cache_folder()}")


def cache_folder() -> Path:
    """Where compiled objects are kept: ``$XDG_CACHE_HOME/three_regime`` or ``~/.cache/three_regime``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "three_regime"


def _key(compiler: str) -> str:
    """Hash of all that the object depends on; nodes of a cluster share a cache and differ in processors."""
    digest = hashlib.sha256()
    for part in (*(path.read_bytes() for path in SOURCES), *map(str.encode, OPTIONS), _version(compiler), _processor()):
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()[:20]


def _version(compiler: str) -> bytes:
    try:
        return subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=_TIME_LIMIT_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{compiler} does not run") from error


def _processor() -> bytes:
    """Model and features of the first processor, without what changes from moment to moment."""
    lines = Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
    fixed = (b"model name", b"flags", b"Features", b"CPU implementer", b"CPU part")
    return platform.machine().encode() + b"\n".join(line for line in lines if line.startswith(fixed))


def _compile(compiler: str, target: Path) -> None:
    sources = [str(path) for path in SOURCES if path.suffix == ".c"]
    command = [compiler, *OPTIONS, "-o", str(target), *sources, "-lm"]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=_TIME_LIMIT_S)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{compiler} failed: {error.stderr.decode(errors='replace').strip()[:300]}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{compiler} failed: {error}") from error
