"""Assign local GPUs, or shares of them, to jobs by lock files.

Snakemake counts GPUs but does not say which one a job got. A job that has something to compute therefore takes a
*slot*, a locked file for one share of one device, and makes only that device visible to torch. The operating system
releases the lock when the process ends, so nothing has to be cleaned up; several Snakemake processes share the slots
because they share the folder. If a batch system has assigned one device, it is used; of several devices (as for
`salloc --gpus=2`), each job gets its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from three_regime.errors import Interrupted, UserError
from three_regime.system.file_locks import acquired
from three_regime.system.interruption import Stop

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
BATCH_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Variables that SLURM, PBS, LSF and Grid Engine set inside a job."""

CHOSEN_HERE = "THREE_REGIME_DEVICE"
"""Variable with the value this module wrote to ``CUDA_VISIBLE_DEVICES``, to distinguish it from a batch system's."""

LOOK_AGAIN_S = 0.5
SMI_S = 60
"""Timeout of ``nvidia-smi`` in seconds; without the persistence daemon it initialises every device first."""

PROC = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Device:
    """A device: its entry in ``CUDA_VISIBLE_DEVICES``, and the name of its lock files."""

    token: str
    name: str


def folder() -> Path:
    """Folder of the slots of this machine and user.

    It is in the temporary folder, on a local disk: devices belong to one machine, but home folders are often shared by
    many, and locks on network file systems are unreliable. Each user has a folder, because other users' files cannot be
    locked.

    Raises
    ------
    UserError
        When the folder belongs to another user.
    """
    path = Path(tempfile.gettempdir()) / f"three-regime-{os.getuid()}" / "gpu-slots"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.stat().st_uid != os.getuid():
        raise UserError(f"{path} belongs to another user; remove it, or set TMPDIR to your own folder")
    return path


def installed() -> list[str]:
    """UUIDs of this machine's NVIDIA devices in the order of ``nvidia-smi``; with MIG, those of the instances."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SMI_S, check=True)
        return uuids(listed.stdout)
    found = [path.read_text(errors="replace") for path in sorted(PROC.glob("*/information"))]
    return [match[1] for match in (re.search(r"GPU UUID:\s*(GPU-\S+)", text) for text in found) if match]


def uuids(listing: str) -> list[str]:
    """Parse the devices that CUDA can use from the output of ``nvidia-smi -L``.

    A device divided into MIG instances is omitted, because CUDA sees only its instances.
    """
    whole: list[str] = []
    instances: dict[int, list[str]] = {}
    for kind, uuid in re.findall(r"UUID: ((?:GPU|MIG)-)([^)\s]+)\)", listing):
        if kind == "GPU-":
            whole.append(kind + uuid)
        else:
            instances.setdefault(len(whole) - 1, []).append(kind + uuid)
    return [each for number, gpu in enumerate(whole) for each in instances.get(number, [gpu])]


def devices(environment: Mapping[str, str], found: Sequence[str]) -> list[Device]:
    """The devices this process may use: those of ``CUDA_VISIBLE_DEVICES``, or all.

    A number there is an index into `found`. (CUDA orders devices by speed unless ``CUDA_DEVICE_ORDER`` is set; on a
    machine with different devices, use UUIDs.)
    """
    if VISIBLE not in environment:
        return [Device(uuid, uuid) for uuid in found]
    chosen = []
    for token in (part.strip() for part in environment[VISIBLE].split(",")):
        if token.isdigit():
            chosen.append(Device(token, found[int(token)] if int(token) < len(found) else f"device{token}"))
        elif re.fullmatch(r"(GPU|MIG)-[\w./-]+", token):
            whole = [uuid for uuid in found if uuid.startswith(token)]
            chosen.append(Device(token, whole[0] if len(whole) == 1 else token.replace("/", "-")))
        else:
            break  # as CUDA, which ignores entries after an invalid one
    return chosen


@contextlib.contextmanager
def device(
    shares: int, stop: Stop, *, find: Callable[[], list[str]] = installed, slots: Path | None = None
) -> Iterator[Device | None]:
    """Hold a share of a device, waiting until one is free, and set ``CUDA_VISIBLE_DEVICES`` to it.

    Enter it before torch is imported. The variable stays set afterwards: once CUDA is initialised in a process it keeps
    its device, so a later job of the same process waits for that one.

    Parameters
    ----------
    shares
        Jobs per device. Processes with different values share the same slots; the largest value counts.
    find
        Return the devices of this machine.
    slots
        Folder of the lock files; default `folder`. An allocation with a list of devices has its own subfolder:
        allocations do not share devices, but may use the same numbers for them.

    Yields
    ------
    The device; None if there is none to choose: no NVIDIA device, or a batch system has assigned one or none.

    Raises
    ------
    Interrupted
        When asked to stop while waiting.
    """
    batch = next((f"{name} {os.environ[name]}" for name in BATCH_JOBS if name in os.environ), None)
    listed = os.environ.get(VISIBLE)
    if batch and listed is not None and "," not in listed and os.environ.get(CHOSEN_HERE) != listed:
        log.info("%s=%s, as the batch system chose (%s)", VISIBLE, listed, batch)
        yield None
        return
    usable = devices(os.environ, find())
    if not usable:
        yield None
        return
    place = slots or folder()
    if batch and listed is not None:
        place /= batch.replace("/", "-").replace(" ", "-")
        place.mkdir(exist_ok=True)
    lock, chosen, name = _acquire(usable, shares, stop, place)
    try:
        os.environ[VISIBLE] = os.environ[CHOSEN_HERE] = chosen.token
        log.info("%s=%s, slot %s", VISIBLE, chosen.token, name)
        yield chosen
    finally:
        if lock is not None:
            lock.release()


def _acquire(usable: Sequence[Device], shares: int, stop: Stop, slots: Path) -> tuple[FileLock | None, Device, str]:
    """Lock a free slot; every device gets a first job before any gets a second."""
    waiting = False
    while True:
        for share in range(shares):
            for each in usable:
                with contextlib.suppress(Timeout):
                    return acquired(slots / f"{each.name}.{share}", timeout=0), each, f"{each.name}.{share}"
        if stop.requested:
            raise Interrupted(f"{stop.reason}: no GPU was free yet")
        if not waiting:
            log.info("waiting for a GPU: %d in use, %d jobs on each", len(usable), shares)
            waiting = True
        time.sleep(LOOK_AGAIN_S)
