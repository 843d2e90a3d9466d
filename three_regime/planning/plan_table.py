"""Format the plan as text."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from humanfriendly import format_size, format_timespan
from tabulate import tabulate

from three_regime.planning.plan import Plan, Row
from three_regime.study.stages import STAGES

_COUNTED = ("jobs", "jobs_to_run", "members", "done", "stale", "missing")


def render(plan: Plan) -> str:
    """Format the plan as a text table with totals and the source of the rates."""
    headers = ["study", "stage", "jobs", "to run", "members", "done", "stale", "missing", "GPU h", "CPU h", "disk"]
    table = [
        [
            row.study + ("*" if row.study in plan.scaled and row.stage in STAGES else ""),
            row.stage,
            *_counts(row),
            hours(row.seconds if row.on_gpu else 0.0),
            hours(_cpu_seconds(row)),
            format_size(row.size, binary=False) if row.size else "",
        ]
        for row in plan.rows
    ]
    sums = totals(plan)
    total = [
        "total", "", *(sums[name] for name in _COUNTED),
        hours(sums["gpu_s"]), hours(sums["cpu_s"]), format_size(sums["size"], binary=False),
    ]  # fmt: skip
    text = tabulate(
        [*table, total], headers, tablefmt="simple", disable_numparse=True, colalign=("left", "left", *["right"] * 9)
    )
    return "\n".join([text, "", *_notes(plan)]) + "\n"


def totals(plan: Plan) -> dict[str, Any]:
    """Sums over the rows: counts, bytes, and the remaining GPU and CPU-core seconds (None without rates)."""
    gpu, cpu = worked(plan) if plan.rates is not None else (None, None)
    sums = {name: sum(getattr(row, name) for row in plan.rows) for name in (*_COUNTED, "size")}
    return {**sums, "gpu_s": gpu, "cpu_s": cpu}


def with_totals(plan: Plan) -> dict[str, Any]:
    """The plan for programs, with what its text computes: members, totals, and the time on this machine's cores."""
    cores = _cores()
    rows = [{**asdict(row), "members": row.members} for row in plan.rows]
    return {**vars(plan), "rows": rows, "totals": totals(plan), "wall_s": wall_s(plan, cores), "cores": cores}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _counts(row: Row) -> list[int | str]:
    """Jobs and members; blank if only file sizes are known."""
    counts = [getattr(row, name) for name in _COUNTED]
    return [*counts] if any(counts) else [""] * len(counts)


def worked(plan: Plan) -> tuple[float, float]:
    """Remaining GPU seconds and CPU-core seconds, as far as they are known."""
    gpu = sum(row.seconds or 0.0 for row in plan.rows if row.on_gpu)
    return gpu, sum(_cpu_seconds(row) or 0.0 for row in plan.rows)


def _notes(plan: Plan) -> list[str]:
    thresholds = [
        f"The regimes of {', '.join(names)} are separated by thresholds set for {dataset}: set `regimes:` in such a"
        " study, from a pilot run (docs/method.md, Regimes)."
        for dataset, names in sorted(plan.inherited.items())
    ]
    claims = [
        f"One dense seed leaves claims of {name} undecided: {', '.join(undecidable)}. State `over: replicas`, or run"
        " several dense seeds."
        for name, undecidable in plan.undecidable.items()
    ]
    return [*_notes_on_times(plan), *thresholds, *claims]


def _notes_on_times(plan: Plan) -> list[str]:
    uncounted = [
        f"Hours (?) and sizes of weights of {', '.join(plan.uncounted)} are unknown and not in the totals: the model"
        " family does not count its layers (`layers` in three_regime/models/families.py)."
    ] if plan.uncounted else []  # fmt: skip
    if plan.rates is None:
        return ["Times are unknown: no rates have been measured for this machine (benchmarks/rates).", *uncounted]
    notes = [
        *_wall(plan),
        f"Longest chain, with a device for every job: {_chain(plan)}.",
        f"Rates: {plan.rates.title}. Each run is counted from its start, ignoring saved training states.",
    ]
    if not plan.rates.on_gpu:
        notes.append("CPU hours are core hours.")
    if plan.unpriced:
        notes.append(
            f"Hours of {', '.join(plan.unpriced)} are unknown (?) and not in the totals: no Transformer has been"
            " measured on this device."
        )
    if plan.unpriced_measures:
        notes.append(
            f"Hours of the measures {', '.join(plan.unpriced_measures)} are not in the totals: they state no `work`"
            " (docs/questions.md)."
        )
    notes += [f"Assumed for {name}: {what}." for name, what in plan.assumed.items()]
    for network in sorted(set(plan.scaled.values())):
        notes.append(f"* not measured; rates scaled from {network} by multiply-adds.")
    return notes + uncounted


def wall_s(plan: Plan, cores: int) -> float | None:
    """Return the wall-clock seconds on one machine with `cores` cores at CPU rates; None if unknown.

    The larger of the longest chain and the work of all jobs divided by the number of cores.
    """
    if plan.longest_chain_s is None or plan.untimed or plan.rates is None or plan.rates.on_gpu:
        return None
    return max(plan.longest_chain_s, worked(plan)[1] / cores)


def _wall(plan: Plan) -> list[str]:
    cores = _cores()
    seconds = wall_s(plan, cores)
    if not seconds:
        return []
    return [f"On this machine ({cores} cores): about {format_timespan(round(seconds), max_units=2)} from start to end."]


def _chain(plan: Plan) -> str:
    """The longest chain as text; a lower bound if some studies cannot be priced."""
    if plan.longest_chain_s is None:
        return "unknown"
    length = format_timespan(round(plan.longest_chain_s), max_units=2)
    return f"at least {length}, without {', '.join(plan.untimed)}" if plan.untimed else length


def _cpu_seconds(row: Row) -> float | None:
    if row.seconds is None or row.on_gpu:
        return None if row.seconds is None else 0.0
    return row.seconds * row.threads


def hours(seconds: float | None) -> str:
    """Format seconds as hours: empty for 0, a question mark if unknown."""
    if seconds is None:
        return "?"
    if seconds == 0:
        return ""
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.3f}"
