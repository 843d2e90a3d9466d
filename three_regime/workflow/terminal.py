"""What a person sees of a run that the `workflow` command started: bars on a terminal, a line a finished job, an end.

Plain `snakemake` prints what it always prints, and so does the command when it is asked for more (``--verbose``,
``--printshellcmds``, ``--logger`` …) or for less (``--quiet``). Snakemake's own log file below ``.snakemake/log`` holds
everything either way.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from humanfriendly import format_timespan

from three_regime.config import Config
from three_regime.errors import UserError
from three_regime.logs import TERSE
from three_regime.study.outputs import EXPLORER_FILE
from three_regime.workflow.arguments import computes, options_of

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_OTHERWISE = re.compile(r"-[A-Za-z]*[qp][A-Za-z]*|--(quiet|verbose|printshellcmds|logger.*|debug.*|stdout)(=.*)?")
"""Options that say what Snakemake shall print."""

LIGHT_S = 1.0
"""Seconds that count for a job without a price: a table, a figure."""

LINES = 5
"""Lines of the closing summary at most."""

STREAM_HANDLER = "DefaultStreamHandler"
"""Name of the handler through which Snakemake prints."""


def ask_for(arguments: Sequence[str]) -> None:
    """Before Snakemake starts: let it (and its jobs) print little, unless its `arguments` say what to print."""
    if os.environ.get(TERSE) == "0":
        return
    os.environ.pop(TERSE, None)
    if computes(arguments) and not any(_OTHERWISE.fullmatch(option) for option in options_of(arguments)):
        os.environ[TERSE] = "1"


def asked_for() -> bool:
    """Whether this run was started so."""
    return os.environ.get(TERSE) == "1"


def attach(logger: logging.Logger, config: Config, slots: int) -> None:
    """Print with a `Handler` what this process's Snakemake would print itself.

    Parameters
    ----------
    logger
        Snakemake's.
    slots
        Jobs that run at a time.
    """
    for handler in [each for each in logger.handlers if each.name == STREAM_HANDLER]:
        logger.removeHandler(handler)
        logger.addHandler(Handler(handler, config, slots))


def prices(config: Config) -> dict[str, float]:
    """Seconds of a job of each heavy rule, as `plan` prices it; without rates for this machine there are none."""
    from three_regime.planning.plan import make
    from three_regime.planning.pricing import RATES, read_rates
    from three_regime.workflow.rule_parts import rule_name

    rates = read_rates(RATES)
    rows = make(config, [], rates).rows if rates else []
    return {
        rule_name(row.stage, row.study): row.seconds / row.jobs_to_run
        for row in rows
        if row.seconds and row.jobs_to_run
    }


def remaining(left_s: float, done_s: float, elapsed_s: float, slots: int) -> float:
    """Seconds to the end of a run.

    At first what the prices say, shared among the slots; once a tenth is done, what that took says how wrong they are.

    Parameters
    ----------
    left_s, done_s
        Prices of what is to be done and of what has been done.
    """
    if done_s < 0.1 * (left_s + done_s) or done_s <= 0:
        return left_s / slots
    return elapsed_s * left_s / done_s


def in_words(seconds: float) -> str:
    """``3 minutes and 12 seconds``, and nothing finer than a second."""
    return format_timespan(max(1, round(seconds)), max_units=2)


class Handler(logging.Handler):
    """Snakemake's messages as bars (on a terminal), a line for each finished job, and errors in full.

    Parameters
    ----------
    own
        Snakemake's handler: where to print, and how errors and warnings look.
    config, slots
        For the price of what is to be done, and how much of it is done at a time.
    """

    def __init__(self, own: Any, config: Config, slots: int) -> None:
        super().__init__(logging.INFO)
        self.name = STREAM_HANDLER
        self._own, self._config, self._slots = own, config, slots
        self._stream = own.stream
        self._started: dict[int, tuple[str, str, float]] = {}
        self._prices: dict[str, float] = {}
        self._done = self._total = 0
        self._left_s = self._done_s = 0.0
        self._begin = time.monotonic()
        self._bars: _Bars | None = None
        self._planned = False

    def emit(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", None) or "")
        try:
            if record.levelno >= logging.WARNING or event in ("job_error", "group_error", "error"):
                self._own.handle(record)
            elif event == "run_info":
                self._plan(getattr(record, "stats", None) or {})
            elif event == "job_info":
                self._start(record)
            elif event == "job_finished":
                self._finish(int(record.job_id))  # type: ignore[attr-defined]
            elif not event and record.getMessage().startswith("Nothing to be done"):
                self._own.handle(record)
                for line in closing(self._config):  # Snakemake calls no hook then
                    self._say(line)
        except Exception:
            self.handleError(record)

    def _plan(self, stats: Mapping[str, int]) -> None:
        if self._planned:  # Snakemake says it again when a run ends
            return
        self._planned = True
        counts = {rule: count for rule, count in stats.items() if rule != "total"}
        try:
            self._prices = prices(self._config)
        except UserError:
            self._prices = {}
        self._total = sum(counts.values())
        self._left_s = sum(self._price(rule) * count for rule, count in counts.items())
        self._begin = time.monotonic()
        self._say(f"{self._total} jobs" + (f", about {in_words(self._left())}" if self._prices else ""))
        if self._stream.isatty():
            self._bars = _Bars(self._stream, counts, self._left_s, self._left())

    def _price(self, rule: str) -> float:
        return self._prices.get(rule, LIGHT_S)

    def _left(self) -> float:
        return remaining(self._left_s, self._done_s, time.monotonic() - self._begin, self._slots)

    def _start(self, record: logging.LogRecord) -> None:
        rule = record.rule_name  # type: ignore[attr-defined]
        label = getattr(record, "rule_msg", None) or rule
        self._started[int(record.jobid)] = (rule, label, time.monotonic())  # type: ignore[attr-defined]
        if self._bars:
            self._bars.begin(rule)

    def _finish(self, job: int) -> None:
        rule, label, since = self._started.pop(job, ("", f"job {job}", time.monotonic()))
        self._done += 1
        self._done_s += self._price(rule)
        self._left_s = max(0.0, self._left_s - self._price(rule))
        self._say(f"[{self._done}/{self._total}] {label}: {in_words(time.monotonic() - since)}")
        if self._bars:
            self._bars.end(rule, self._done_s, self._left())

    def _say(self, line: str) -> None:
        if self._bars:
            self._bars.say(line)
        else:
            print(line, file=self._stream, flush=True)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Take the bars away."""
        if self._bars:
            self._bars.close()
            self._bars = None
        super().close()


class _Bars:
    """A bar for the whole and one for each rule that is at work."""

    def __init__(self, stream: Any, counts: Mapping[str, int], price_s: float, left_s: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}")
        self._progress: Progress = Progress(*columns, console=Console(file=stream), transient=True)
        self._rules: dict[str, TaskID] = {
            rule: self._progress.add_task(rule, total=count, told=f"0/{count}", visible=False)
            for rule, count in counts.items()
        }
        told = f"{in_words(left_s)} left" if left_s >= 1 else ""
        self._all = self._progress.add_task("all", total=price_s or 1.0, told=told)
        self._progress.start()

    def begin(self, rule: str) -> None:
        if rule in self._rules:
            self._progress.update(self._rules[rule], visible=True, refresh=True)

    def end(self, rule: str, done_s: float, left_s: float) -> None:
        if rule in self._rules:
            task = self._progress.tasks[self._rules[rule]]
            done = int(task.completed) + 1
            self._progress.update(
                task.id, completed=done, told=f"{done}/{int(task.total or 0)}", visible=done < (task.total or 0)
            )
        self._progress.update(
            self._all, completed=done_s, told=f"{in_words(left_s)} left" if left_s >= 1 else "", refresh=True
        )

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def closing(config: Config) -> list[str]:
    """At most `LINES` at the end of a run: each study's best temperatures and regimes, then where to look."""
    from pathlib import Path

    from three_regime.study.grid import planned

    root = Path(config.results)
    found = [line for study in planned(config) if (line := _about(study.folder, study.knob.label))]
    if len(found) > 2:
        found = [*found[:1], f"… and {len(found) - 1} more studies in {root}"]
    elif len(found) == 1:
        found = found[0].split("; ", 1)
    places = {
        "explorer (open it in a browser, offline)": root / EXPLORER_FILE,
        "report": root / "report.html",
        "scorecard": root / "scorecard.md",
        "phase diagrams": root / "*" / "figures" / "phase_diagram.pdf",
        "tables": root / "*" / "regimes.csv",
    }
    there = [f"{name}: {path}" for name, path in places.items() if any(_matching(path))]
    return [*found, *reversed(there[: LINES - len(found)])]


def _matching(path: Any) -> list[Any]:
    from glob import glob

    return glob(str(path))


def _about(folder: Any, knob: str) -> str:
    """Best temperature a density, and how many cells lie in each regime; empty before there are tables."""
    import pandas as pd

    from three_regime.config.loads import DENSITY
    from three_regime.figures.style import number

    try:
        selection, regimes = (pd.read_csv(folder / f"{name}.csv") for name in ("selection", "regimes"))
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return ""
    best = selection[selection["algorithm"] == "oracle"].dropna(subset=["temperature"]).sort_values("density")
    chosen = ", ".join(
        f"{number(row.temperature)} at {DENSITY.text(row.density)} %" for row in best.itertuples(index=False)
    )
    counts = regimes["regime"].value_counts().sort_index()
    cells = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
    decided = int(regimes["decided"].fillna(False).sum())
    return (
        f"{folder.name}: best {knob}: {chosen or 'nothing retrained'}; "
        f"cells in regimes: {cells} (decided: {decided} of {len(regimes)})"
    )


def tell(logger: logging.Logger, config: Config) -> None:
    """Print the closing summary, the bars gone."""
    for handler in logger.handlers:
        if isinstance(handler, Handler):
            handler.close()
    print("\n".join(closing(config)), file=sys.stderr, flush=True)
