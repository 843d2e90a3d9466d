"""Snakemake's records of files: found where Snakemake keeps them, whatever the length of their paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from three_regime.workflow import snakemake_records


@pytest.mark.parametrize("length", [20, 187, 188, 190, 400, 900])
def test_records_of_long_paths_lie_where_snakemake_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.chdir(tmp_path)
    snakemake_records.RECORDS.mkdir(parents=True)
    path = Path("results") / "/".join(["x" * 49] * (length // 50 + 1))[:length].strip("/") / "dense.json"
    own = object.__new__(FilePersistence)
    own._max_len = None
    place = Path(own._record_path(str(snakemake_records.RECORDS), str(path)))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("{}")
    assert snakemake_records.record_of(path) == {}
    assert snakemake_records._known(path) and not snakemake_records.begun(path)
    snakemake_records.set_back([path])
    assert not place.exists() and not snakemake_records._known(path)
