"""TensorBoard event files, read back by a decoder of the file format that shares nothing with the writer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from checkout import Checkout
from finished import copied, inside, study_of, tiny

from three_regime.exchange import event_files
from three_regime.exchange.export import export
from three_regime.system import manifest

POLYNOMIAL = 0x82F63B78
"""Of CRC-32C, reflected."""


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ POLYNOMIAL * (value & 1)
    return value ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[bytes]:
    """TFRecord: length, its checksum, content, its checksum."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        content = data[12 : 12 + length]
        assert struct.unpack("<I", data[8:12]) == (masked(data[:8]),)
        assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked(content),)
        yield content
        data = data[16 + length :]


def varint(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for used, byte in enumerate(data, start=1):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, data[used:]
    raise AssertionError("ends within a number")


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer."""
    while data:
        key, data = varint(data)
        if key & 7 == 0:
            value, data = varint(data)
        elif key & 7 == 2:
            length, data = varint(data)
            value, data = data[:length], data[length:]
        else:
            size, form = {1: (8, "<d"), 5: (4, "<f")}[key & 7]
            value, data = struct.unpack(form, data[:size])[0], data[size:]
        yield key >> 3, value


def events(path: Path) -> list[dict[str, Any]]:
    """Fields of ``Event``: 1 time, 2 step, 3 file version, 5 summary, of values (1) with tag (1) and number (2)."""
    found = []
    for record in records(path):
        event = dict(fields(record))
        values = [dict(fields(value)) for _, value in fields(event.get(5, b""))]
        values = {value[1].decode(): value[2] for value in values}
        found.append({"time": event.get(1, 0.0), "step": event.get(2, 0), "version": event.get(3), "values": values})
    return found


@pytest.fixture(scope="module")
def exported(finished_tiny: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """An export with event files, and the curves that they hold."""
    own = copied(finished_tiny, tmp_path_factory.mktemp("events") / "checkout")
    with inside(own):
        out = (own.path / export(tiny(), Path("mine"), tensorboard=True)).resolve()
        return out, pd.read_csv(study_of(tiny()).table("curves"))


def test_checksum_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_every_training_is_a_run_with_its_own_curve(exported: tuple[Path, pd.DataFrame]) -> None:
    out, curves = exported
    runs = {path.parent.relative_to(out / "tensorboard").as_posix(): path for path in out.rglob("*tfevents*")}
    trainings = curves.groupby(event_files._RUN, dropna=False).ngroups
    assert len(runs) == trainings == 10
    assert {"tiny/seed1/epochs002/dense", "tiny/seed1/epochs004/density010/replica2"} <= runs.keys()
    rows = curves.query("stage == 'retrain' and temperature == 4 and density == 0.1 and replica == 2")
    first, *rest = events(runs["tiny/seed1/epochs004/density010/replica2"])
    assert first["version"] == b"brain.Event:2" and not first["values"]
    assert [event["step"] for event in rest] == rows["epoch"].tolist()
    for name, tag in (("train_loss", "train/loss"), ("test_error", "test/error"), ("learning_rate", "learning_rate")):
        known = rows.dropna(subset=[name])
        read = {event["step"]: event["values"][tag] for event in rest if tag in event["values"]}
        assert read == pytest.approx(dict(zip(known["epoch"], known[name], strict=True)), rel=1e-6)
    assert {tag.split("/")[0] for event in rest for tag in event["values"]} <= {"train", "test", "learning_rate"}


def test_events_carry_the_end_of_their_training(exported: tuple[Path, pd.DataFrame], finished_tiny: Checkout) -> None:
    out, _ = exported
    (path,) = (out / "tensorboard/tiny/seed1/epochs002/density010/replica1").iterdir()
    with inside(finished_tiny):
        rows = pd.read_csv(study_of(tiny()).table("provenance")).query("stage == 'retrain' and temperature == 2")
    end = datetime.fromisoformat(rows.query("density == 0.1 and replica == 1")["finished"].iloc[0]).timestamp()
    assert {event["time"] for event in events(path)} == {end}
    assert f".{end:.0f}." in path.name


def test_they_are_in_the_manifest_and_only_if_asked_for(exported: tuple[Path, pd.DataFrame], finished_tiny) -> None:
    out, _ = exported
    listed = [name for name in manifest.read_json(out / manifest.MANIFEST)["files"] if "tfevents" in name]
    assert len(listed) == 10
    own = copied(finished_tiny, out.parent / "other")
    with inside(own):
        assert not list(export(tiny(), Path("plain")).rglob("*tfevents*"))
        first, second = (export(tiny(), Path(name) / "mine.zip", tensorboard=True) for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
