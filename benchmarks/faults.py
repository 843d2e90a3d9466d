"""`python -m benchmarks.faults`: inject faults into a small study, rerun it, and count the outcomes.

Each trial copies a finished study, injects one fault, and reruns the same command with no other intervention. The
outcome is ``correct`` if tensors, results and tables equal those of an undisturbed study, ``refused`` if the run ends
with a message that names the file and is correct once that file is deleted, and ``WRONG`` otherwise. Messages about a
full disk, read-only results or a lock must name the file as well.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import random
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from benchmarks import fault_cases as cases
from benchmarks.fault_cases import NAME, RESULTS, STUDY, Case, Injected, Place
from three_regime.study import provenance
from three_regime.system.files import read_arrays, tensor_digest, write_json, write_text

log = logging.getLogger(__name__)

VICTIMS = ("job", "snakemake", "group")

DENSE, PRUNED, RETRAINED = (
    f"{STUDY}/seed1/{place}.safetensors" for place in ("*/dense", "*/*/pruned", "*/*/*/retrained")
)

KILLS: dict[str, Case] = {
    f"kill {victim} in {stage}": cases.killed(stage, victim) for victim in VICTIMS for stage in cases.STAGES
}

OTHERS: dict[str, Case] = {
    "full disk in dense": cases.full_disk("dense"),
    "full disk in prune": cases.full_disk("prune"),
    "full disk in retrain": cases.full_disk("retrain"),
    "read-only results in retrain": cases.read_only("retrain"),
    "read-only results in cka": cases.read_only("cka"),
    "clock jump": cases.clock,
    "truncated dense checkpoint": cases.damaged(DENSE, "prune", "truncated"),
    "flipped bit in dense checkpoint": cases.damaged(DENSE, "prune", "flipped"),
    "truncated pruned checkpoint": cases.damaged(PRUNED, "retrain", "truncated"),
    "flipped bit in pruned checkpoint": cases.damaged(PRUNED, "retrain", "flipped"),
    "truncated retrained checkpoint": cases.damaged(RETRAINED, "lmc", "truncated"),
    "flipped bit in retrained checkpoint": cases.damaged(RETRAINED, "cka", "flipped"),
    "flipped bit in prepared data": cases.damaged("data/digits.safetensors", "cka", "flipped"),
    "truncated result": cases.damaged(f"{STUDY}/seed1/*/*/*/lmc.json", "analysis", "truncated"),
    "flipped bit in result": cases.damaged(f"{STUDY}/seed1/*/*/*/*.json", "analysis", "flipped"),
    "truncated state of dense": cases.damaged_state("dense", "truncated"),
    "flipped bit in state of dense": cases.damaged_state("dense", "flipped"),
    "flipped bit in state of retrain": cases.damaged_state("retrain", "flipped"),
    "deleted output": cases.deleted,
    "two workflows at once": cases.two_workflows,
    "two bare stages at once": cases.two_stages,
    "out of GPU memory in dense": cases.out_of_memory("dense"),
    "out of GPU memory in retrain": cases.out_of_memory("retrain"),
}

CASES = {**KILLS, **OTHERS}

NEEDS_MOUNT = re.compile("full disk|read-only")

TRIALS = 75
"""Number of trials in `make faults`: at least 50 SIGKILLs, at least 5 per stage, and every other fault once."""

PROVENANCE_COLUMNS = ["device", "wall_s", "commit", "finished"]


@dataclass(frozen=True)
class Trial:
    """Outcome of one trial: `correct`, `refused` or `WRONG`, with the fault injected and the message."""

    case: str
    seed: int
    outcome: str
    about: str
    message: str
    seconds: float


def schedule(trials: int) -> list[str]:
    """Return the names of the trials: every case once, then kills, cycling through the stages."""
    names = [name for name in CASES if cases.MOUNTABLE or not NEEDS_MOUNT.search(name)]
    kills = list(KILLS)
    return (names + [kills[number % len(kills)] for number in range(max(0, trials - len(names)))])[:trials]


def reference(folder: Path) -> Place:
    """Return the reference: the study run to completion without faults."""
    place = cases.place_project(folder)
    ended = place.make(f"{NAME}_tables")
    if ended.code:
        raise SystemExit(ended.text)
    return place


def attempt(place: Place, name: str, seed: int, expected: dict[str, str]) -> Trial:
    """Run one trial in its own folder.

    Parameters
    ----------
    expected
        Content of the reference (see `content`).
    """
    began = time.monotonic()
    rng = random.Random(f"{name} {seed}")
    injected = CASES[name](place, rng)
    outcome, message = _judge(place, injected, expected)
    return Trial(name, seed, outcome, injected.about, message, round(time.monotonic() - began, 1))


def _judge(place: Place, injected: Injected, expected: dict[str, str]) -> tuple[str, str]:
    said = ""
    if injected.said is not None:
        said = complaint(place, injected.said)
        if not said:
            return "WRONG", f"unclear: {injected.said[-500:]}"
    again = place.make(injected.target)
    if again.code == 0:
        wrong = differences(place, expected)
        return ("WRONG", wrong) if wrong else ("correct", said)
    said = complaint(place, again.text)
    named = [path for path in injected.damaged if str(path.relative_to(place.path)) in said]
    if not named:
        return "WRONG", f"unclear: {again.text[-500:]}"
    for path in named:
        path.unlink(missing_ok=True)  # the run may have set it aside
    last = place.make(injected.target)
    wrong = differences(place, expected) if last.code == 0 else f"after deleting it: {last.text[-500:]}"
    return ("WRONG", wrong) if wrong else ("refused", said)


def complaint(place: Place, text: str) -> str:
    """Return the message that names a file (or the change to make), or nothing if there was a traceback."""
    if "Traceback (most recent call last)" in text.replace("_run_wrapper", ""):
        return ""
    text = re.sub(r"^(Error: .*:)\n", r"\1 ", text, flags=re.MULTILINE)  # Snakemake names the folder in the next line
    found = [line for line in text.splitlines() if " ERROR " in line or line.startswith("Error: ")]
    sentences = [line.split(" ERROR ")[-1].removeprefix("Error: ").strip() for line in found]
    clear = [
        line for line in sentences if re.search(rf"{RESULTS}|data/|`batch_size`|{re.escape(str(place.path))}", line)
    ]
    return clear[0] if clear else ""


def content(place: Place) -> dict[str, str]:
    """Map each file to its content without provenance: digest of its tensors, its results or its columns."""
    found = {}
    for path in place.files(f"{STUDY}/**/*.safetensors", "data/*.safetensors"):
        found[str(path.relative_to(place.path))] = tensor_digest(read_arrays(path))
    for path in place.files(f"{STUDY}/**/*.json"):
        result = json.loads(path.read_text())
        result.pop("provenance", None)
        found[str(path.relative_to(place.path))] = json.dumps(result, sort_keys=True)
    for path in place.files(f"{STUDY}/*.csv"):
        text = path.read_text()
        if path.name == "provenance.csv":
            text = pd.read_csv(io.StringIO(text)).drop(columns=PROVENANCE_COLUMNS).to_csv(index=False)
        found[str(path.relative_to(place.path))] = text
    return found


def differences(place: Place, expected: dict[str, str]) -> str:
    """Describe the differences from the reference; empty if there are none."""
    try:
        found = content(place)
    except Exception as error:
        return f"a file cannot be read: {error}"
    wrong = [name for name in expected if found.get(name) != expected[name]]
    return f"{len(wrong)} files differ: {', '.join(wrong[:3])}" if wrong else ""


def table(trials: Sequence[Trial]) -> str:
    """Return a Markdown table of each case's outcomes, then the totals."""
    rows = []
    for name in dict.fromkeys(trial.case for trial in trials):
        here = [trial for trial in trials if trial.case == name]
        counts = Counter(trial.outcome for trial in here)
        said = next((trial.message for trial in here if trial.message), "")
        said = textwrap.shorten(re.sub(r"\S*/(?=(results|data)/)", "", said), 150, placeholder=" …")
        rows.append([name, len(here), *(counts[key] or "" for key in ("correct", "refused", "WRONG")), said])
    total = Counter(trial.outcome for trial in trials)
    rows.append(["all", len(trials), *(total[key] for key in ("correct", "refused", "WRONG")), ""])
    return tabulate(rows, ["fault", "trials", "correct", "refused", "WRONG", "what it said"], tablefmt="github") + "\n"


def summary(trials: Sequence[Trial]) -> str:
    """Summarise the trials in one sentence: their number, SIGKILLs in total and per stage, and outcomes."""
    killed = Counter(trial.case.split(" in ")[-1] for trial in trials if trial.case in KILLS)
    ended = Counter(trial.outcome for trial in trials)
    kills = f"{killed.total()} SIGKILLs, at least {min(killed[stage] for stage in cases.STAGES)} in each stage"
    outcomes = f"{ended['correct']} ended correct, {ended['refused']} were refused, {ended['WRONG']} were wrong"
    return f"Of {len(trials)} trials ({kills}) {outcomes}.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials; return exit code 1 if any outcome is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel trials")
    parser.add_argument("--only", help="regular expression that selects faults by name")
    parser.add_argument("--out", type=Path, help="folder for the table and the JSON file; default: print only")
    parser.add_argument("--finished", type=Path, help="folder of the undisturbed study, reused if it exists")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        home = chosen.finished or Path(folder) / "reference"
        finished = Place(home) if home.exists() else reference(home)
        expected = content(finished)
        names = [name for name in schedule(chosen.trials) if re.search(chosen.only or "", name)]

        def one(number: int) -> Trial:
            place = cases.copy_place(finished, Path(folder) / f"trial{number}")
            trial = attempt(place, names[number], chosen.seed + number, expected)
            print(
                f"{number + 1}/{len(names)} {trial.case} ({trial.about}): {trial.outcome} {trial.message}", flush=True
            )
            if trial.outcome == "WRONG":
                shutil.move(place.path, tempfile.mkdtemp(prefix="faults-wrong-"))
            else:
                shutil.rmtree(place.path)
            return trial

        with ThreadPoolExecutor(chosen.jobs) as pool:
            trials = list(pool.map(one, range(len(names))))
    print(table(trials) + "\n" + summary(trials))
    if chosen.out:
        about = {"measured": datetime.now(UTC).date().isoformat(), "seed": chosen.seed, "commit": provenance.commit()}
        write_json(chosen.out / "faults.json", {**about, "trials": [asdict(trial) for trial in trials]})
        write_text(chosen.out / "faults.md", table(trials) + "\n" + summary(trials))
    return int(any(trial.outcome == "WRONG" for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
