"""Copy of the checkout in which a test runs Snakemake with its own lock, metadata and results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""

SHARED = ROOT.parent / "shared"
"""Reference data and tools beside the project; tests that need them are skipped without."""

FOLDERS = ("config", "rules", "scripts", "profiles", "envs", "schemas", "reference", "three_regime")
PARTS = ("Snakefile", "config.yaml", "CITATION.cff", *FOLDERS)


@dataclass(frozen=True)
class Checkout:
    """A folder that contains the project."""

    path: Path

    def environment(self) -> dict[str, str]:
        """Return environment variables that make Python import the copy instead of the original."""
        return {**os.environ, "PYTHONPATH": str(self.path), "OMP_NUM_THREADS": "1"}

    def without(self, *modules: str) -> dict[str, str]:
        """Return environment variables with which importing any of the modules fails."""
        blocked = self.path / "blocked"
        blocked.mkdir(exist_ok=True)
        for name in modules:
            (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is not to be imported here')\n")
        return {**self.environment(), "PYTHONPATH": os.pathsep.join((str(blocked), str(self.path)))}

    def command(self, *arguments: str) -> list[str]:
        """Return the Snakemake command of the project's wrapper."""
        return [sys.executable, "-m", "three_regime", "workflow", "--cores", "2", *arguments]

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run the workflow to completion; return its output."""
        ended = subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert not check or ended.returncode == 0, ended.stdout[-5000:]
        return ended.stdout

    def under(self, profile: str, *arguments: str, path: str = "", **more: str) -> str:
        """Run the workflow under a profile, with `path` on Python's path and more environment variables."""
        command = [sys.executable, "-m", "three_regime", "workflow", "--workflow-profile", f"profiles/{profile}"]
        environment = {**self.environment(), **more}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment["PYTHONPATH"], path]))
        ended = subprocess.run(
            [*command, *arguments], cwd=self.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-5000:]
        return ended.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return the jobs of a dry run: rule → number, without targets."""
        output = self.run("--dry-run", *arguments)
        if "Nothing to be done" in output:
            return {}
        table = output.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
        counts = {line.split()[0]: int(line.split()[1]) for line in table if line.strip()}
        return {rule: count for rule, count in counts.items() if rule not in ("all", "total")}


def copy_to(folder: Path, *, without: Sequence[str] = ()) -> Checkout:
    """Copy the project's files, no results and no data, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part in without:
            continue
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)
    return Checkout(folder)
