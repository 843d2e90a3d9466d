"""One start of the workflow: the configuration that it resolved, in a file that every job of it reads. No torch.

Jobs are processes of their own, on a cluster on other machines and hours later, and Snakemake lets each of them read
the configuration again. Edited meanwhile, it would give one run results of two configurations. So a run writes down
what it resolved, and its jobs get that file instead of the user's (``--configfile``, which reaches every executor).
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
    """A start of the workflow.

    Attributes
    ----------
    file
        Its configuration, relative to the working directory.
    started
        Seconds since 1970.
    checkout
        Digest of the code.
    read
        Configuration file → digest of its bytes when it was read.
    """

    file: str
    started: float
    checkout: str
    read: dict[str, str] = field(default_factory=dict)

    @property
    def changed_code(self) -> str:
        """Which files of the code are not those of the start, in words; empty when all are."""
        if checkout_digest() == self.checkout:
            return ""
        newer = [path for path in _code() if path.stat().st_mtime > self.started]
        names = [str(path.relative_to(_CODE.parent)) for path in newer] or [str(_CODE.parent)]
        return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")

    def record(self) -> dict[str, str]:
        """For provenance: the file of the settings, and code that has changed when a job of it begins."""
        changed = self.changed_code
        return {"run": self.file, **({"changed_code": changed} if changed else {})}

    @property
    def edited(self) -> list[str]:
        """Configuration files that were edited, or removed, since they were read."""
        return [name for name, digest in self.read.items() if _digest(Path(name)) != digest]


def begin(config: Config, read: Mapping[str, str]) -> Run:
    """Write down the configuration of a run that starts now, and return the run.

    Parameters
    ----------
    read
        The configuration files that it was read from, with their digests at that time (`digests`).

    Raises
    ------
    UserError
        When the results cannot be written.
    """
    now = datetime.now(UTC)
    path = Path(config.results) / "logs" / "runs" / f"{now:%Y-%m-%dT%H-%M-%S-%fZ}.yaml"
    run = Run(str(path), now.timestamp(), checkout_digest(), dict(read))
    said = f"# Every setting of the run that was started at {now:%Y-%m-%d %H:%M:%S} UTC; all its jobs use this file.\n"
    settings = {FROZEN: asdict(run), **config.model_dump(mode="json")}
    write_text(path, said + yaml.safe_dump(settings, sort_keys=False))
    return run


def of(settings: Mapping[str, Any]) -> Run | None:
    """The run whose configuration file `settings` was read from; None outside of one."""
    return Run(**settings[FROZEN]) if FROZEN in settings else None


def digests(files: Sequence[str | Path]) -> dict[str, str]:
    """Digest of each file's bytes."""
    return {os.path.relpath(path): _digest(Path(path)) for path in files}


def checkout_digest() -> str:
    """Digest of the library and, where they are beside it, the rules and scripts."""
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
