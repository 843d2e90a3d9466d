"""The command: mutate the core in a copy of the checkout, run the tests that reach each mutant, print a table."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.mutants import report
from benchmarks.mutants.mutation import Mutant, drawn
from three_regime.study import provenance
from three_regime.system.files import write_json, write_text

ROOT = Path(__file__).resolve().parents[2]

LIBRARY = ROOT / "three_regime"

LEFT_BEHIND = {".git", ".venv", ".snakemake", "results", "data", "offline", ".pytest_cache", ".ruff_cache"}
"""What of the checkout's folder is not copied: neither the project nor needed by its tests."""

CORE = (
    "analysis/algorithms.py", "analysis/claims.py", "analysis/regimes.py", "analysis/scorecard.py",
    "analysis/seed_means.py", "analysis/tables.py", "config/knobs.py", "config/training.py",
    "exchange/checkpoint_files.py", "jobs/kept_copies.py", "landscape/linear_cka.py",
    "landscape/mode_connectivity.py", "models/matching.py", "preparation/transfer.py",
    "pruning/allocation.py", "pruning/criteria.py", "pruning/masks.py", "random_streams.py",
    "study/products.py", "study/verdicts.py", "system/archives.py", "system/sparse_encoding.py",
    "tasks/images/batchnorm_reestimation.py", "tasks/images/stacked.py", "tasks/images/task.py",
    "tasks/translation/batches.py", "tasks/translation/beam_search.py", "training/learning_rate.py",
    "training/loop.py", "training/optimisers.py", "training/saved_state.py",
)  # fmt: skip
"""The modules that the numbers depend on most."""


def digest(*folders: Path) -> str:
    """Digest of every file in these folders, with its name."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            found.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def copied(home: Path) -> Path:
    """A copy of the checkout in `home`, beside it a link to what lies beside the checkout; replaces an earlier one.

    Records of the session in the copy stay.
    """
    copy = home / "checkout"
    copy.mkdir(parents=True, exist_ok=True)
    for source in ROOT.iterdir():
        if source.name in LEFT_BEHIND:
            continue
        target = copy / source.name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    shared = ROOT.parent / "shared"
    if shared.is_dir() and not (home / "shared").exists():
        (home / "shared").symlink_to(shared)
    return copy


def mutants_of(wanted: Mapping[str, int], seed: str) -> list[Mutant]:
    """So many mutants of each module, as the seed draws them."""
    texts = {module: (LIBRARY / module).read_text() for module in wanted}
    return [mutant for module, number in wanted.items() for mutant in drawn(module, texts[module], number, seed)]


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE[=N]", help="below three_regime/; default: the core")
    parser.add_argument("--each", type=int, default=14, metavar="N", help="mutants of a module (default: %(default)s)")
    parser.add_argument("--seed", default="1", help="draws them (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=120, 
                        help="then it stops; the same command continues (default: %(default)s)")  # fmt: skip
    parser.add_argument("--trace", type=float, default=30, metavar="MINUTES",
                        help="at most, of these: what each test executes (default: %(default)s)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=20, help="of tests, for each mutant (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "three-regime-mutants",
                        help="of copies and of what is already known (default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder of the table and the JSON file; default: print alone")
    parser.add_argument("--list", action="store_true", help="show the mutants; try none")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Try mutants, and tell what came of them."""
    asked = arguments(given)
    pairs = (name.partition("=") for name in asked.modules or CORE)
    wanted = {name: int(number or asked.each) for name, _, number in pairs}
    if asked.list:
        for mutant in mutants_of(wanted, asked.seed):
            print(f"{mutant.module}:{mutant.line} {mutant.about}")
        return 0
    home = asked.folder.resolve() / digest(LIBRARY)  # another library has other mutants
    copy = copied(home)
    question = {
        "modules": wanted,
        "seed": asked.seed,
        "seconds": asked.seconds,
        "traced_until": time.time() + 60 * asked.trace,
        "until": time.time() + 60 * asked.minutes,
        "tests": digest(ROOT / "tests"),
    }
    environment = {
        **os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }  # fmt: skip
    session = [sys.executable, "-m", "benchmarks.mutants.session"]
    ended = subprocess.run(session, cwd=copy, env=environment, input=json.dumps(question), text=True)
    if ended.returncode:
        return ended.returncode
    kept = copy / "trials.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    keys = {mutant.key for mutant in mutants_of(wanted, asked.seed)}
    trials = report.latest(trial for trial in map(json.loads, lines) if trial["key"] in keys)
    known = report.known_equivalents()
    text = f"{report.summary(trials, known)}\n{report.table(trials, known)}"
    if len(trials) < len(keys):
        text = f"{text}\nNot tried for want of time: {len(keys) - len(trials)} of {len(keys)} mutants.\n"
    print(text)
    if asked.out:
        about = {"measured": datetime.now(UTC).date().isoformat(), "seed": asked.seed, "commit": provenance.commit()}
        write_json(asked.out / "mutants.json", {**about, "mutants": trials})
        write_text(asked.out / "mutants.md", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
