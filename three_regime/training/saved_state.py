"""Save and load training state, so a killed run resumes bit-identically.

Random streams are derived from names and counters, so the position within the epoch is enough to restore them.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from three_regime import kernels
from three_regime.errors import UserError
from three_regime.kernels import Kernels
from three_regime.system.files import Arrays, read_arrays, read_metadata, write_arrays

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedState:
    """A training run between two steps.

    Attributes
    ----------
    arrays
        Parameters, optimiser slots, buffers, and the running sums of the epoch.
    epoch, step
        Completed epochs, and completed steps of the current epoch.
    history
        One row per completed epoch.
    wall_s
        Seconds spent so far, over all interruptions.
    """

    arrays: Arrays
    epoch: int
    step: int
    history: list[dict[str, Any]]
    wall_s: float

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.step


def save(
    path: Path,
    state: SavedState,
    *,
    key: str,
    threads: int,
    device: str,
    together: bool,
    computed_with: Kernels | None = None,
) -> None:
    """Write the state atomically; `key` identifies the run, `together` and `computed_with` (None: the
    process's kernels) describe how it is computed.
    """
    about = {
        "key": key,
        "threads": threads,
        "device": device,
        "together": together,
        "kernels": computed_with or kernels.in_use(),
        "epoch": state.epoch,
        "step": state.step,
        "history": state.history,
        "wall_s": state.wall_s,
    }
    write_arrays(path, state.arrays, {"state": json.dumps(about)})


def recorded(path: Path) -> dict[str, Any]:
    """What the state at `path` records beside its arrays; `UserError`, ``KeyError`` or ``ValueError`` if unreadable."""
    return json.loads(read_metadata(path)["state"])


def _of_run(path: Path, key: str) -> dict[str, Any]:
    """What the state at `path` records; empty if there is no readable state of the run with this key."""
    try:
        about = recorded(path) if path.exists() else {}
        return about if about.get("key") == key else {}
    except (UserError, KeyError, ValueError, TypeError, AttributeError):
        return {}  # `load` says why


def written_with(path: Path, key: str) -> Kernels | None:
    """The kernels that the run with this key was begun with; None if it has no state at `path`."""
    about = _of_run(path, key)
    return about.get("kernels", "plain") if about else None


def written_together(path: Path, key: str) -> bool:
    """Whether the run with this key was begun in lock-step; False if it has no state at `path`."""
    return bool(_of_run(path, key).get("together"))


def present(path: Path, *, key: str, device: str) -> bool:
    """Whether there is a state of the run with this key, written on such a device."""
    return _of_run(path, key).get("device") == device


def again(path: Path) -> Path:
    """Path for the state of a run that repeats earlier epochs, which must not overwrite the later state at `path`."""
    return path.with_name(f"again.{path.name}")


def settle(path: Path, *, anew: bool) -> None:
    """End a run: remove the state at `again`, or move it to `path` if this run saved it (`anew`) and it is later."""
    other = again(path)
    if anew and read_position(other) > read_position(path):
        os.replace(other, path)
    other.unlink(missing_ok=True)


def read_position(path: Path) -> tuple[int, int]:
    """Completed epochs and steps of the state at `path`; before the start if there is no readable state."""
    try:
        about = recorded(path)
        return about["epoch"], about["step"]
    except (UserError, KeyError, ValueError, TypeError):
        return -1, 0


def load(
    path: Path, *, key: str, threads: int, device: str, together: bool, computed_with: Kernels | None = None
) -> SavedState | None:
    """Load the state at `path`; return None (and log the reason) if there is no usable one.

    Parameters as for `save`.

    Raises
    ------
    UserError
        When the state was written on a CPU with another thread count, the other value of `together` or, unless that
        is true, other kernels: continuing would change the numbers.
    """
    if not path.exists():
        return None
    try:
        about = recorded(path)
        found_key, found_device, found_threads = about["key"], about["device"], about["threads"]
        found_together = about["together"]
        found_kernels = about.get("kernels", "plain")
        state = SavedState(read_arrays(path), about["epoch"], about["step"], about["history"], about["wall_s"])
    except (UserError, KeyError, ValueError, TypeError) as error:
        log.warning("ignoring the training state %s: %s", path, error)
        return None
    if found_key != key:
        log.warning("ignoring the training state %s: it belongs to a run with other settings or inputs", path)
        return None
    if found_device != device:
        log.warning("ignoring the training state %s: it was written on %s, this is %s", path, found_device, device)
        return None
    if device == "cpu" and found_threads != threads:
        raise UserError(
            f"{path} was written with {found_threads} CPU threads and this run has {threads}: the result would not"
            f" be bit-identical; set `threads: {found_threads}` to continue it, or delete the file to start again"
        )
    if device == "cpu" and found_together != together:
        ways = {True: "in lock-step", False: "one after another"}
        raise UserError(
            f"{path} was written by members that advanced {ways[found_together]}, and now they advance"
            f" {ways[together]}: the result would not be bit-identical; set the study's `lockstep` back to continue it,"
            " or delete the file to start again"
        )
    # Lock-step is computed by torch, although earlier versions recorded the kernels of the process.
    present = computed_with or kernels.in_use()
    if device == "cpu" and not together and found_kernels != present:
        remedy = "set `kernels: plain`" if found_kernels == "plain" else "use a machine with a C compiler"
        raise UserError(
            f"{path} was written with {found_kernels} kernels and this run has {present} ones: the result"
            f" would not be bit-identical; {remedy} to continue it, or delete the file to start again"
        )
    return state
