"""What a run says: bars on a terminal, a line a finished job without one, five lines at the end."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pty
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_study
from smooth_plane import THRESHOLDS, cells

from three_regime.analysis import regime_tables
from three_regime.config import resolve
from three_regime.logs import TERSE, reporting
from three_regime.system.files import write_csv
from three_regime.workflow import terminal

LISTS = "input: results/a.json, results/b.json"


def say(handler: logging.Handler, text: str = "", level: int = logging.INFO, **extra: object) -> None:
    record = logging.LogRecord("snakemake.logging", level, __file__, 1, text, (), None)
    record.__dict__.update(extra)
    handler.handle(record)


def play(handler: terminal.Handler, jobs: int = 3) -> None:
    """The messages of a small run, as Snakemake sends them."""
    say(handler, "Building DAG of jobs...")
    say(handler, "stats", event="run_info", stats={"retrain_tiny": jobs, "total": jobs})
    for job in range(jobs):
        wildcards = {"seed": str(job)}
        say(handler, LISTS, event="job_info", jobid=job, rule_name="retrain_tiny", rule_msg=f"Retrain {wildcards}")
        say(handler, f"Finished jobid: {job}", event="job_finished", job_id=job)
        say(handler, "steps", event="progress", done=job + 1, total=jobs)


def handler_to(stream: object, tmp_path: Path) -> terminal.Handler:
    own = logging.StreamHandler(stream)  # type: ignore[type-var]
    return terminal.Handler(own, resolve(tiny_study.mapping(tmp_path)), 2)


def test_without_a_terminal_each_finished_job_is_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "prices", lambda config: {"retrain_tiny": 60.0})
    stream = io.StringIO()
    handler = handler_to(stream, tmp_path)
    play(handler)
    say(handler, "a warning", logging.WARNING)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "3 jobs, about 1 minute and 30 seconds"
    assert re.fullmatch(r"\[2/3\] Retrain \{'seed': '1'\}: 1 second", lines[2])
    assert lines[-1] == "a warning" and len(lines) == 5
    assert "results/" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_on_a_terminal_there_is_a_bar_for_all_and_one_a_rule(tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "prices", lambda config: {"retrain_tiny": 60.0})
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    heard: list[bytes] = []

    def listen() -> None:
        with contextlib.suppress(OSError):  # the terminal is closed
            while part := os.read(ours, 4096):
                heard.append(part)

    listener = threading.Thread(target=listen)
    listener.start()
    with os.fdopen(theirs, "w") as stream:
        handler = handler_to(stream, tmp_path)
        play(handler)
        handler.close()
    listener.join(10)
    os.close(ours)
    told = b"".join(heard).decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told)
    assert re.search(r"retrain_tiny +━+.* 0/3", plain) and re.search(r"all +━+", plain)
    assert re.search(r"all +━+.* 1 minute and 30 seconds left", plain)
    assert "[3/3] Retrain" in plain and "results/" not in plain
    assert told.rindex("\x1b[?25h") > told.rindex("\x1b[?25l"), "the cursor is back"


def test_the_time_left_follows_prices_then_experience():
    assert terminal.remaining(600, 0, 5, slots=2) == 300
    assert terminal.remaining(300, 300, 900, slots=2) == 900, "three times slower than priced"


@pytest.mark.parametrize(
    ("arguments", "terse"),
    [
        (["--cores", "1"], True),
        (["--configfile", "config/tiny.yaml", "--", "figures"], True),
        (["--cores", "1", "--verbose"], False),
        (["-p", "--cores", "1"], False),
        (["--quiet", "rules"], False),
        (["--logger", "rich"], False),
        (["--dry-run"], False),
        (["--", "--quiet"], True),
    ],
)
def test_who_asks_for_more_or_less_gets_snakemakes_own(monkeypatch, arguments, terse):
    monkeypatch.setenv(TERSE, "1")
    terminal.ask_for(arguments)
    assert terminal.asked_for() == terse
    monkeypatch.setenv(TERSE, "0")
    terminal.ask_for([])
    assert not terminal.asked_for()


def test_jobs_say_little_and_log_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(TERSE, "1")
    with reporting("job", tmp_path / "log"):
        logging.getLogger("three_regime").info("an epoch")
        logging.getLogger("three_regime").warning("a doubt")
    assert "an epoch" not in (told := capsys.readouterr().err) and "a doubt" in told
    assert "an epoch" in (tmp_path / "log").read_text()


def test_only_snakemakes_own_stream_is_replaced(tmp_path):
    stream, log = logging.StreamHandler(io.StringIO()), logging.StreamHandler(io.StringIO())
    stream.name, log.name = terminal.STREAM_HANDLER, "DefaultLogFileHandler"
    logger = SimpleNamespace(handlers=[stream, log])
    logger.removeHandler, logger.addHandler = logger.handlers.remove, logger.handlers.append
    terminal.attach(logger, resolve(tiny_study.mapping(tmp_path)), 1)
    assert logger.handlers[0] is log and isinstance(logger.handlers[1], terminal.Handler)


@pytest.mark.parametrize("studies", [1, 2, 3])
def test_at_most_five_lines_say_what_came_out(tmp_path, studies):
    whole = tiny_study.mapping(tmp_path)
    names = [f"s{number}" for number in range(studies)]
    config = resolve(whole | {"run": names, "studies": dict.fromkeys(names, whole["studies"]["tiny"])})
    for name in names:
        write_csv(tmp_path / "results" / name / "cells.csv", cells(temperatures=(1, 2), densities=(0.1, 0.5)))
        regime_tables.write(tmp_path / "results" / name, THRESHOLDS)
    places = ("report.html", "explorer.html", "scorecard.md", "s0/figures/phase_diagram.pdf")
    for place in places:
        (tmp_path / "results" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "results" / place).touch()
    lines = terminal.closing(config)
    assert len(lines) == 5
    assert re.match(r"s0: best dense training epochs: [12] at 10 %, [12] at 50 %", lines[0])
    assert re.search(r"cells in regimes: .*\(decided: \d of 4\)$", "\n".join(lines[:2]), flags=re.MULTILINE)
    assert [line.rpartition("/")[2] for line in lines[2:]] == ["scorecard.md", "report.html", "explorer.html"]
    for place in places[:3]:
        (tmp_path / "results" / place).unlink()
    assert [line.split(":")[0] for line in terminal.closing(config)[2:]] == ["tables", "phase diagrams"]
    assert not terminal.closing(resolve(tiny_study.mapping(tmp_path / "empty")))


def test_a_run_with_nothing_to_do_says_where_to_look_too(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "explorer.html").touch()
    stream = io.StringIO()
    say(handler_to(stream, tmp_path), "Nothing to be done (all requested files are present and up to date).")
    assert stream.getvalue().splitlines()[1:] == [
        f"explorer (open it in a browser, offline): {tmp_path}/results/explorer.html"
    ]
