"""Runs of the workflow: freeze the resolved configuration in a file that all jobs of a run read.

Jobs are separate processes, on a cluster hours later and on other machines, and Snakemake reads the configuration again
in each. If it were edited meanwhile, one run would mix results of two configurations. So a run writes its resolved
configuration, and its jobs read that file instead of the user's (``--configfile``, which reaches every executor).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from three_regime.config import FROZEN, Config
from three_regime.system.files import file_digest, write_text
from three_regime.system.places import CHECKOUT

_CODE = CHECKOUT / "three_regime"
_BESIDE = ("Snakefile", "rules/*.smk", "scripts/*.py")
_SUFFIXES = {".py", ".c", ".h", ".yaml"}


@dataclass(frozen=True)
class Run:
    """One run of the workflow.

    Attributes
    ----------
    file
        Path of its frozen configuration, relative to the working directory.
    started
        Start time in seconds since 1970.
    checkout
        Digest of the code at the start.
    read
        Configuration file → digest of its bytes when it was read.
    """

    file: str
    started: float
    checkout: str
    read: dict[str, str] = field(default_factory=dict)

    @property
    def changed_code(self) -> str:
        """Code files that changed since the start, as text; empty if none."""
        if checkout_digest() == self.checkout:
            return ""
        newer = [path for path in _code() if path.stat().st_mtime > self.started]
        names = [str(path.relative_to(_CODE.parent)) for path in newer] or [str(_CODE.parent)]
        return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")

    def record(self) -> dict[str, str]:
        """Entries for provenance: the configuration file, and code that changed since the start."""
        changed = self.changed_code
        return {"run": self.file, **({"changed_code": changed} if changed else {})}

    @property
    def edited(self) -> list[str]:
        """Configuration files that were edited or removed since they were read."""
        return [name for name, digest in self.read.items() if _digest(Path(name)) != digest]


def begin(config: Config, read: Mapping[str, str]) -> Run:
    """Start a run: write its resolved configuration and return it.

    Parameters
    ----------
    read
        Configuration files, with their digests when they were read (`digests`).

    Raises
    ------
    UserError
        When the results folder is not writable.
    """
    now = datetime.now(UTC)
    path = Path(config.results) / "logs" / "runs" / f"{now:%Y-%m-%dT%H-%M-%S-%fZ}.yaml"
    run = Run(str(path), now.timestamp(), checkout_digest(), dict(read))
    said = f"# All settings of the run started at {now:%Y-%m-%d %H:%M:%S} UTC; its jobs read this file.\n"
    settings = {FROZEN: asdict(run), **config.model_dump(mode="json")}
    write_text(path, said + yaml.safe_dump(settings, sort_keys=False))
    return run


def of(settings: Mapping[str, Any]) -> Run | None:
    """The run that `settings` belongs to; None if they were not read from a run's file."""
    return Run(**settings[FROZEN]) if FROZEN in settings else None


def digests(files: Sequence[str | Path]) -> dict[str, str]:
    """Digest of each file's bytes."""
    return {os.path.relpath(path): _digest(Path(path)) for path in files}


def checkout_digest() -> str:
    """Digest of the library and, if present beside it, the rules and scripts."""
    digest = hashlib.sha256()
    for path in _code():
        digest.update(f"{path.relative_to(_CODE.parent)}|{file_digest(path)}|".encode())
    return digest.hexdigest()


def _code() -> Iterator[Path]:
    yield from sorted(path for path in _CODE.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    for pattern in _BESIDE:
        yield from sorted(_CODE.parent.glob(pattern))


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""
