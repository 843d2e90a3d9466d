"""Compile the kernels once for each processor, compiler and source version, and cache them."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from three_regime.errors import UserError
from three_regime.system import places
from three_regime.system.files import replacing

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

log = logging.getLogger(__name__)


class Unavailable(Exception):
    """The kernels cannot be used on this machine; the message gives the reason."""


def built() -> Path:
    """Path of the shared object for this machine; compiled (in seconds) if it is not in the cache.

    Processes that compile concurrently each write a complete object under the same name.

    Raises
    ------
    Unavailable
        When there is no compiler, it fails, or no cache folder is usable.
    """
    if platform.system() != "Linux":
        raise Unavailable(f"they support only Linux, not {platform.system()}")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise Unavailable(f"there is no C compiler ({', '.join(COMPILERS)})")
    name = f"kernels-{_key(compiler)}.so"
    for folder in cache_folders():
        path = folder / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not is_ours_alone(folder):
                log.warning("%s is not used for compiled kernels: others could put code there", folder)
                continue
            if path.is_symlink() or (path.exists() and not is_ours_alone(path)):
                log.warning("%s is compiled again: others could have written it", path)
                path.unlink()
            if not path.exists():
                with replacing(path) as temporary:
                    _compile(compiler, temporary)
                path.chmod(0o600)  # regardless of the umask, since files that others can write are not loaded
        except (OSError, UserError):
            continue  # not writable, or full
        return path
    raise Unavailable(f"no cache folder is usable: {', '.join(map(str, cache_folders()))}")


def cache_folders() -> list[Path]:
    """Candidate folders for compiled objects, in order: the user's cache, then the temporary folder."""
    home = places.cache_home()
    temporary = Path(tempfile.gettempdir()) / f"three_regime-{os.getuid()}"
    return [*([home / "three_regime"] if home else []), temporary]


def is_ours_alone(path: Path) -> bool:
    """Whether only this user (or root) can have written `path`, which is loaded as code.

    It must be a file or folder (not a link) that this user owns and others cannot write, below folders in which others
    cannot replace it.
    """
    found = path.lstat()
    usable = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    if not usable or found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    above = (parent.stat().st_mode for parent in path.resolve().parents)
    return not any(mode & stat.S_IWOTH and not mode & stat.S_ISVTX for mode in above)


def _key(compiler: str) -> str:
    """Hash of everything the object depends on; cluster nodes with different processors may share a cache."""
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
    """Model and features of the first processor, without fields that vary over time."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
    except OSError as error:
        raise Unavailable("/proc/cpuinfo cannot be read, which names the processor they are compiled for") from error
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
