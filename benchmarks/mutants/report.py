"""What came of the mutants: counts, survivors, and those that no test can kill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
"""Mutants that were read and found to behave as the library does: module, line before and after, and why."""

KILLED = ("killed", "hung")

Trial = Mapping[str, Any]


@dataclass(frozen=True)
class Counts:
    """Mutants of a module, or of all."""

    killed: int
    survived: int
    equivalent: int

    @property
    def rate(self) -> float:
        """Share that was killed of those that can be; NaN of none."""
        able = self.killed + self.survived
        return self.killed / able if able else float("nan")


def known_equivalents(path: Path = EQUIVALENT) -> dict[tuple[str, str, str], str]:
    """(Module, line before, line after) → why no test can tell them apart."""
    entries = yaml.safe_load(path.read_text()) or []
    return {(one["module"], one["before"], one["after"]): one["why"] for one in entries}


def latest(trials: Iterable[Trial]) -> list[Trial]:
    """The last trial of each mutant, in the order of modules and lines."""
    found = {trial["key"]: trial for trial in trials}
    return sorted(found.values(), key=lambda trial: (trial["module"], trial["line"], trial["about"]))


def why_equivalent(trial: Trial, known: Mapping[tuple[str, str, str], str]) -> str:
    """Why a survivor is no gap of the tests; empty where it is one."""
    return "" if trial["outcome"] in KILLED else known.get((trial["module"], trial["before"], trial["after"]), "")


def count(trials: Sequence[Trial], known: Mapping[tuple[str, str, str], str]) -> Counts:
    """How so many trials ended."""
    killed = sum(trial["outcome"] in KILLED for trial in trials)
    equivalent = sum(bool(why_equivalent(trial, known)) for trial in trials)
    return Counts(killed, len(trials) - killed - equivalent, equivalent)


def summary(trials: Sequence[Trial], known: Mapping[tuple[str, str, str], str]) -> str:
    """One sentence."""
    found = count(trials, known)
    return (
        f"Of {len(trials)} mutants of {len({trial['module'] for trial in trials})} modules {found.equivalent} behave as"
        f" the library does; of the other {found.killed + found.survived} the tests kill {found.killed}:"
        f" {found.rate:.1%}.\n"
    )


def table(trials: Sequence[Trial], known: Mapping[tuple[str, str, str], str]) -> str:
    """Markdown: a row a module, then survivors and equivalents one by one."""
    rows = []
    for module in dict.fromkeys(trial["module"] for trial in trials):
        found = count([trial for trial in trials if trial["module"] == module], known)
        rows.append([f"`{module}`", found.killed, found.survived or "", found.equivalent or "", _percent(found)])
    text = tabulate(rows, ["module", "killed", "survived", "equivalent", "rate"], tablefmt="github")
    survivors = [trial for trial in trials if trial["outcome"] not in KILLED and not why_equivalent(trial, known)]
    gaps = [[_place(one), _code(one["before"]), _code(one["after"]), _tests(one)] for one in survivors]
    same = [[_place(one), _code(one["before"]), _code(one["after"]), why_equivalent(one, known)]
            for one in trials if why_equivalent(one, known)]  # fmt: skip
    return (
        f"{text}\n\n## Survivors\n\n{_listed(gaps, 'tests that ran')}"
        f"\n\n## Equivalent\n\n{_listed(same, 'why no test can tell')}\n"
    )


def _percent(counts: Counts) -> str:
    return f"{counts.rate:.0%}" if counts.killed + counts.survived else ""


def _listed(rows: Sequence[Sequence[str]], last: str) -> str:
    return tabulate(rows, ["where", "library", "mutant", last], tablefmt="github") if rows else "None."


def _place(trial: Trial) -> str:
    return f"`{trial['module']}` {trial['line']}"


def _code(text: str) -> str:
    short = text if len(text) <= 90 else f"{text[:88]} …"
    return f"`{short}`".replace("|", "\\|") if text else "(nothing)"


def _tests(trial: Trial) -> str:
    return "no test executes it" if trial["outcome"] == "unreached" else f"{trial['ran']} of {trial['reaching']}"
