"""Which of the jobs that take seconds a target would run, and why: by files, their times, and Snakemake's records."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from three_regime import light_jobs
from three_regime.config import Config
from three_regime.datasets.prepare import is_prepared
from three_regime.errors import UserError
from three_regime.light_jobs import DISCARD, FIGURES, REPORT, TABLES, LightJob
from three_regime.plan import ALL_STUDIES, DATA, wanted
from three_regime.records import record_of
from three_regime.stages import FIGURE2_STUDY, PUBLISHED, TABLES_VERSION
from three_regime.storage import file_sha256
from three_regime.study import Study, planned, study, thresholds_of
from three_regime.survey import Finding, chain_to, differences
from three_regime.workflow import rule_name, study_fingerprint


@dataclass(frozen=True)
class LightFinding:
    """Why a job would run: empty when it would not.

    Attributes
    ----------
    owner
        The study; None for what is made once for all of them.
    recorded
        Whether Snakemake's record is there: without it changed settings go unnoticed, by Snakemake too.
    lost
        Results that the files were made from and that are not there any more: Snakemake does not miss them.
    """

    job: LightJob
    owner: Study | None
    reasons: tuple[str, ...]
    recorded: bool
    lost: int = 0

    @property
    def name(self) -> str:
        """Its rule's name, e.g. ``regimes_tiny``."""
        published = self.owner is None and PUBLISHED in self.job.files[0].parts
        if self.job.rule == "cells" and published:
            return PUBLISHED
        of = self.owner.name if self.owner else PUBLISHED if published else None
        return rule_name(self.job.rule, of) if of and self.job.rule != "prepare" else self.job.rule


@dataclass(frozen=True)
class _Owned:
    job: LightJob
    owner: Study | None


def explain_light(config: Config, target: str | None, findings: Sequence[Finding]) -> list[LightFinding]:
    """Data, tables, verdicts, figures and report among what `target` needs, in the order in which they are made.

    Parameters
    ----------
    target
        See `three_regime.explain.explain`.
    findings
        On the results that the target needs: what is made from one that is to be computed is made again too.
    """
    again = {path for finding in findings if not finding.done for path in finding.product.outputs}
    found = []
    for each in _asked(config, target):
        record = record_of(each.job.files[0])
        used = set((record or {}).get("input") or []) if each.job.rule == "cells" else set()
        lost = {path for path in each.job.inputs if str(path) in used and not path.exists()}
        reasons = tuple(_reasons(config, each, again - lost, record))
        again |= set(each.job.files) if reasons else set()
        found.append(LightFinding(each.job, each.owner, reasons, record is not None, len(lost)))
    return found


def studies_behind(config: Config, path: Path) -> list[Study] | None:
    """The studies whose results a table, figure, report or data file is made from; None when it is none of these."""
    chain = _behind(_everything(config), path)
    return [each.owner for each in chain if each.owner and each.job.rule == "cells"] if chain else None


def _asked(config: Config, target: str | None) -> list[_Owned]:
    everything = _everything(config)
    if target is not None and (chain := _behind(everything, Path(target))):
        return chain
    try:
        chosen = wanted(config, [target] if target else [])
    except UserError:  # a result file
        return []
    files = {path for name, stages in chosen.items() for each in _of(config, name, stages) for path in each.job.files}
    return [each for each in everything if files.intersection(each.job.files)]


def _everything(config: Config) -> list[_Owned]:
    """Every light job of the planned studies, what is made first first."""
    asked = {DATA, TABLES, FIGURES, DISCARD, REPORT}
    names = [owner.name for owner in planned(config)]
    return [each for name in [*names, ALL_STUDIES] for each in _of(config, name, asked)]


def _of(config: Config, name: str, asked: Collection[str]) -> list[_Owned]:
    """The jobs of a study, or of all together, that `asked` names."""
    if name != ALL_STUDIES:
        owner = study(config, name)
        jobs = [LightJob("prepare", (owner.prepared,))] if DATA in asked else []
        jobs += light_jobs.of_study(owner, asked) if {TABLES, FIGURES} & set(asked) else []
        jobs += light_jobs.of_discarding(owner) if DISCARD in asked else []
        return [_Owned(job, owner) for job in jobs]
    jobs = light_jobs.of_published(config, asked) + light_jobs.over_all_studies(config, asked)
    jobs += light_jobs.of_report(config) if REPORT in asked else []
    return [_Owned(job, None) for job in jobs]


def _behind(everything: Sequence[_Owned], path: Path) -> list[_Owned]:
    """The job that writes `path`, and the light jobs that it waits for; empty when none writes it."""
    return chain_to(path, everything, lambda each: (each.job.files, each.job.inputs))


def _reasons(config: Config, each: _Owned, again: Collection[Path], record: Mapping[str, Any] | None) -> Iterator[str]:
    job = each.job
    absent = [path for path in job.files if not path.exists()]
    if absent:
        yield f"{absent[0]} is missing" + (f", and {len(absent) - 1} more" if len(absent) > 1 else "")
    elif job.rule == "prepare" and not is_prepared(each.owner.config.dataset, each.owner.data):
        yield f"{job.files[0]} was prepared for another version or with other settings, or is damaged"
    remade = [path for path in job.inputs if path in again]
    if remade:
        yield f"made from {remade[0]}, which is to be made" + _more(remade)
    if not absent and (newer := _newer(job, record or {})):
        yield f"{newer[0]} is newer" + _more(newer)
    if record:
        yield from _changes(_settings(config, each), record)


def _more(paths: Sequence[Path]) -> str:
    return f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""


def _newer(job: LightJob, record: Mapping[str, Any]) -> list[Path]:
    """Inputs that are younger than an output, and whose content is not that which Snakemake recorded."""
    oldest = min(path.stat().st_mtime_ns for path in job.files)
    young = [path for path in job.inputs if path.exists() and path.stat().st_mtime_ns > oldest]
    recorded = record.get("input_checksums") or {}
    return [path for path in young if recorded.get(str(path)) != _checksum(path)]


def _checksum(path: Path) -> str:
    """As Snakemake records it; empty for what cannot be read, whatever is in the file's place."""
    try:
        return f"sha256:{file_sha256(path)}"
    except OSError:
        return ""


def _settings(config: Config, each: _Owned) -> dict[str, Any]:
    """What the params of the job's rule hold of the configuration, by the place of a value in it."""
    owner, rule = each.owner, each.job.rule
    thresholds = {"regimes": asdict(thresholds_of(config, owner.name if owner else PUBLISHED))}
    if rule == "cells" and owner:
        return {"the settings of its results": study_fingerprint(owner), "the version of tables": TABLES_VERSION}
    if rule == "claims" and owner:
        return {"claims": [claim.model_dump(mode="json") for claim in owner.config.claims], **thresholds}
    if rule == "case_studies":
        return {"regimes": {name: asdict(thresholds_of(config, name)) for name in config.run}}
    if rule == "scorecard":
        scored = config.studies[FIGURE2_STUDY].model_dump(mode="json") if FIGURE2_STUDY in config.run else None
        return {f"studies.{FIGURE2_STUDY}": scored, "regimes": asdict(thresholds_of(config, FIGURE2_STUDY))}
    if rule == "settings":
        return {"": config.model_dump(mode="json")}
    return thresholds if rule in ("regimes", "draw") else {}


def _changes(settings: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    """Settings whose value is not among the params that Snakemake recorded."""
    recorded = [_read(text) for text in record.get("params") or []]
    for name, value in settings.items():
        if value in recorded:
            continue
        before = [old for old in recorded if isinstance(old, Mapping) and isinstance(value, Mapping)]
        alike = max(before, key=lambda old: len(old.keys() & value.keys()), default=None)
        named = list(differences(alike, value, f"{name}." if name else "")) if alike else []
        yield "changed: " + (", ".join(named) or name or "settings")


def _read(text: str) -> Any:
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    return None


def lines(found: Sequence[LightFinding]) -> list[str]:
    """What would run, a line a job, and for how many it cannot be known."""
    pending = [each for each in found if each.reasons]
    if not found:
        return []
    said = [f"{len(pending)} of {len(found)} jobs that take seconds would run"]
    said += [f"  {each.name}: {'; '.join(each.reasons)}" for each in pending]
    if lost := sum(each.lost for each in found if not each.reasons):
        said.append(
            f"{lost} results that tables were made from are missing: Snakemake makes them where they or their stage"
            " are asked for by name"
        )
    blind = [each for each in found if not each.reasons and not each.recorded]
    if blind:
        said.append(
            f"of {len(blind)} others Snakemake has no record: whether their settings changed since cannot be known"
        )
    return said
